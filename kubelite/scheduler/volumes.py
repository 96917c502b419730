"""Claims, volumes, storage classes and what CSI drivers tell of nodes, as the scheduler sees them; and what it has promised of
them and nobody has written yet.

Kept current by the scheduler's event handlers. Knows no nodes: where claims lead is for the plugins and `placement`.

Source: component-helpers storage/volume, plugins/volumebinding (binder.go) and nodevolumelimits (csi.go), v1.34.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kubelite.meta import quantities, selectors
from kubelite.meta.types import Obj
from kubelite.scheduler.templates import Template

NO_PROVISIONER = "kubernetes.io/no-provisioner"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
_CLASS = "volume.beta.kubernetes.io/storage-class"

#: (CSI driver, what identifies one of its volumes)
Handle = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Binding:
    """What one claim needs before its pod is bound: this volume, or (None) to be provisioned for the node."""

    claim: Obj
    volume: Obj | None


class Volumes:
    def __init__(self) -> None:
        self.claims: dict[tuple[str, str], Obj] = {}
        self.volumes: dict[str, Obj] = {}
        self.classes: dict[str, Obj] = {}
        self.drivers: dict[str, Obj] = {}
        self.capacities: dict[tuple[str, str], Obj] = {}
        #: How many volumes of a driver a node can have, by driver and node.
        self.limits: dict[str, dict[str, int]] = {}
        #: By node and the attachment's name.
        self.attachments: dict[str, dict[str, Obj]] = {}
        #: Volumes that were chosen for claims (namespace/name) and nodes that claims will be provisioned for.
        self._chosen: dict[str, str] = {}
        self._nodes: dict[str, str] = {}

    # What changes

    def claim_changed(self, old: Obj | None, new: Obj | None) -> None:
        meta = (new or old or {})["metadata"]
        key = meta["namespace"], meta["name"]
        _put(self.claims, key, new)
        if new is None or is_bound(new):
            self._forget(f"{key[0]}/{key[1]}")
        elif SELECTED_NODE in (meta.get("annotations") or {}):  # written: from here on it says itself
            self._nodes.pop(f"{key[0]}/{key[1]}", None)

    def volume_changed(self, old: Obj | None, new: Obj | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        _put(self.volumes, name, new)
        if new is None:
            self._chosen.pop(name, None)

    def class_changed(self, old: Obj | None, new: Obj | None) -> None:
        _put(self.classes, (new or old or {})["metadata"]["name"], new)

    def driver_changed(self, old: Obj | None, new: Obj | None) -> None:
        _put(self.drivers, (new or old or {})["metadata"]["name"], new)

    def capacity_changed(self, old: Obj | None, new: Obj | None) -> None:
        meta = (new or old or {})["metadata"]
        _put(self.capacities, (meta["namespace"], meta["name"]), new)

    def csi_node_changed(self, old: Obj | None, new: Obj | None) -> None:
        node = (new or old or {})["metadata"]["name"]
        for driver in limits_of(old):
            if self.limits.get(driver, {}).pop(node, None) is not None and not self.limits[driver]:
                del self.limits[driver]
        for driver, limit in limits_of(new).items():
            self.limits.setdefault(driver, {})[node] = limit

    def attachment_changed(self, old: Obj | None, new: Obj | None) -> None:
        attachment = new or old or {}
        of_node = self.attachments.setdefault(attachment["spec"]["nodeName"], {})
        _put(of_node, attachment["metadata"]["name"], new)
        if not of_node:
            del self.attachments[attachment["spec"]["nodeName"]]

    # What is asked

    def of_template(self, template: Template) -> Iterator[Obj]:
        """The template's claims, those that are there."""
        for use in template.claims:
            claim = self.claims.get((template.namespace, use.name))
            if claim is not None:
                yield claim

    def waits(self, claim: Obj) -> bool:
        """Whether a claim without a volume waits for its pod's node. One that names a volume beforehand doesn't: that is for the
        volume controller to bind."""
        if claim["spec"].get("volumeName"):
            return False
        storage_class = self.classes.get(class_of(claim))
        return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"

    def selected_node(self, claim: Obj) -> str:
        """The node that a claim is being provisioned for, or will be; empty for none."""
        annotations = claim["metadata"].get("annotations") or {}
        return str(annotations.get(SELECTED_NODE) or self._nodes.get(_key(claim), ""))

    def candidates(self, claim: Obj) -> list[Obj]:
        """Volumes that would do for a claim, the best first: the one that is kept for it, else the free ones by size."""
        own = _key(claim)
        offers = [v for name, v in self.volumes.items() if self._chosen.get(name, own) == own and _may_hold(v, claim)]
        kept = [v for v in offers if v["spec"].get("claimRef") and refers_to(v, claim)]
        if kept:
            return kept[:1]
        return sorted((v for v in offers if _is_free(v) and _has_wanted(v, claim)), key=_size_and_name)

    def handle_of(self, claim: Obj) -> Handle | None:
        """The volume that a claim has, or will have, in a CSI driver's terms; None where it is no driver's."""
        volume = self.volumes.get(claim["spec"].get("volumeName") or "")
        if volume is not None:
            csi = volume["spec"].get("csi")
            return None if csi is None else (csi.get("driver", ""), csi.get("volumeHandle", ""))
        storage_class = self.classes.get(class_of(claim))
        provisioner = (storage_class or {}).get("provisioner")
        return (provisioner, _key(claim)) if provisioner else None

    def attached(self, node: str, driver: str) -> Iterator[Handle]:
        """The volumes of a driver that are attached to a node, used by a pod there or not."""
        for attachment in self.attachments.get(node, {}).values():
            volume = self.volumes.get((attachment["spec"].get("source") or {}).get("persistentVolumeName") or "")
            csi = ((volume or {}).get("spec") or {}).get("csi")
            if csi is not None and attachment["spec"].get("attacher") == driver:
                yield driver, csi.get("volumeHandle", "")

    # What is promised

    def promise(self, bindings: Iterable[Binding], node: str) -> None:
        for binding in bindings:
            if binding.volume is None:
                self._nodes[_key(binding.claim)] = node
            else:
                self._chosen[binding.volume["metadata"]["name"]] = _key(binding.claim)

    def forget(self, bindings: Sequence[Binding]) -> None:
        for binding in bindings:
            self._forget(_key(binding.claim))

    def _forget(self, claim: str) -> None:
        self._nodes.pop(claim, None)
        for name in [name for name, owner in self._chosen.items() if owner == claim]:
            del self._chosen[name]


def _put(objects: dict, key: object, new: Obj | None) -> None:  # type: ignore[type-arg]
    if new is None:
        objects.pop(key, None)
    else:
        objects[key] = new


def _key(claim: Obj) -> str:
    return f"{claim['metadata']['namespace']}/{claim['metadata']['name']}"


def is_bound(claim: Obj) -> bool:
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in (claim["metadata"].get("annotations") or {})


def class_of(obj: Obj) -> str:
    """The storage class of a claim or volume; empty for none."""
    annotations = obj["metadata"].get("annotations") or {}
    return str(annotations[_CLASS] if _CLASS in annotations else obj["spec"].get("storageClassName") or "")


def requested_bytes(claim: Obj) -> int:
    return quantities.value(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0"))


def refers_to(volume: Obj, claim: Obj) -> bool:
    """Whether a volume is for this claim: bound to it, or kept for it by name."""
    reference, meta = volume["spec"].get("claimRef") or {}, claim["metadata"]
    if (reference.get("namespace"), reference.get("name")) != (meta["namespace"], meta["name"]):
        return False
    return reference.get("uid", "") in ("", meta.get("uid", ""))


def limits_of(csi_node: Obj | None) -> dict[str, int]:
    """How many volumes of each driver a node can have; drivers without a limit are left out."""
    found = {}
    for driver in ((csi_node or {}).get("spec") or {}).get("drivers") or ():
        count = (driver.get("allocatable") or {}).get("count")
        if count is not None:
            found[driver["name"]] = count
    return found


def capacity_limit(capacity: Obj | None) -> int | None:
    """The largest volume that a CSIStorageCapacity has room for; None where it tells nothing."""
    text = (capacity or {}).get("maximumVolumeSize", (capacity or {}).get("capacity"))
    return None if text is None else quantities.value(text)


def _size_bytes(volume: Obj) -> int:
    return quantities.value((volume["spec"].get("capacity") or {}).get("storage", "0"))


def _size_and_name(volume: Obj) -> tuple[int, str]:
    return _size_bytes(volume), volume["metadata"]["name"]


def _may_hold(volume: Obj, claim: Obj) -> bool:
    """What holds for volumes that are kept for the claim too."""
    offer, wanted = volume["spec"], claim["spec"]
    return (
        class_of(volume) == class_of(claim)
        and (not offer.get("claimRef") or refers_to(volume, claim))
        and _size_bytes(volume) >= requested_bytes(claim)
        and (offer.get("volumeMode") or "Filesystem") == (wanted.get("volumeMode") or "Filesystem")
        and (offer.get("volumeAttributesClassName") or "") == (wanted.get("volumeAttributesClassName") or "")
        and not volume["metadata"].get("deletionTimestamp")
    )


def _is_free(volume: Obj) -> bool:
    return (volume.get("status") or {}).get("phase") == "Available"


def _has_wanted(volume: Obj, claim: Obj) -> bool:
    wanted = claim["spec"]
    selector = selectors.from_object(wanted["selector"]) if wanted.get("selector") is not None else selectors.EVERYTHING
    modes = set(wanted.get("accessModes") or ()) <= set(volume["spec"].get("accessModes") or ())
    return modes and selector.matches(volume["metadata"].get("labels"))
