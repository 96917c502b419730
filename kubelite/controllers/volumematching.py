"""Which volume is for which claim. Pure.

Source: kubernetes pkg/controller/volume/persistentvolume/{index,pv_controller}.go, component-helpers storage/volume, v1.34.
"""

from collections.abc import Sequence

from kubelite.meta import quantities, selectors
from kubelite.meta.types import Obj

CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"


def class_of(obj: Obj) -> str:
    """The storage class of a claim or volume; empty for none."""
    annotations = obj["metadata"].get("annotations") or {}
    return str(annotations.get(CLASS_ANNOTATION) or obj["spec"].get("storageClassName") or "")


def has_class(claim: Obj) -> bool:
    """The claim says which class it wants, if only that it wants none."""
    return CLASS_ANNOTATION in (claim["metadata"].get("annotations") or {}) or claim["spec"].get("storageClassName") is not None


def refers_to(volume: Obj, claim: Obj) -> bool:
    """The volume is for this claim: bound to it, or kept for it by name."""
    reference, meta = volume["spec"].get("claimRef"), claim["metadata"]
    if reference is None or (reference.get("namespace"), reference.get("name")) != (meta["namespace"], meta["name"]):
        return False
    return reference.get("uid", "") in ("", meta["uid"])


def has_mode_of(volume: Obj, claim: Obj) -> bool:
    """Both are file systems, or both are block devices."""
    return bool(volume["spec"].get("volumeMode", "Filesystem") == claim["spec"].get("volumeMode", "Filesystem"))


def mismatch(volume: Obj, claim: Obj, *, any_class: bool = False) -> str:
    """Why a volume can't be what the claim asks for; empty where it can."""
    spec, wanted = volume["spec"], claim["spec"]
    if "deletionTimestamp" in volume["metadata"]:
        return f'the volume is marked for deletion "{volume["metadata"]["name"]}"'
    requested = ((wanted.get("resources") or {}).get("requests") or {}).get("storage", "0")
    if quantities.parse((spec.get("capacity") or {}).get("storage", "0")) < quantities.parse(requested):
        return "requested PV is too small"
    if not any_class and class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if (wanted.get("volumeAttributesClassName") or "") != (spec.get("volumeAttributesClassName") or ""):
        return "volumeAttributesClassName does not match"
    if not has_mode_of(volume, claim):
        return "incompatible volumeMode"
    if not set(wanted.get("accessModes") or ()) <= set(spec.get("accessModes") or ()):
        return "incompatible accessMode"
    return ""


def best_volume(claim: Obj, volumes: Sequence[Obj]) -> Obj | None:
    """The volume kept for the claim, else a free one that fits: which can be used in the fewest ways, of them the smallest."""
    kept = [v for v in volumes if refers_to(v, claim) and not mismatch(v, claim, any_class=True)]
    if kept:
        return kept[0]
    wanted = claim["spec"].get("selector")
    selector = None if wanted is None else selectors.from_object(wanted)
    free = [
        v
        for v in volumes
        if v["spec"].get("claimRef") is None
        and not mismatch(v, claim)
        and (v.get("status") or {}).get("phase") == "Available"
        and (selector is None or selector.matches(v["metadata"].get("labels") or {}))
    ]
    return min(
        free,
        key=lambda v: (
            len(v["spec"].get("accessModes") or ()),
            quantities.parse(v["spec"]["capacity"]["storage"]),
            v["metadata"]["name"],
        ),
        default=None,
    )


def undeletable(volume: Obj) -> str:
    """Why the data of a released volume can't be deleted from here; empty where whoever provisioned it does so.

    Kubernetes deletes directories under /tmp of its controller's own host; they are nobody's volumes where there are nodes.
    """
    provisioner = (volume["metadata"].get("annotations") or {}).get(PROVISIONED_BY, "")
    if provisioner:
        return f"no volume plugin matched name: {provisioner}" if provisioner.startswith("kubernetes.io/") else ""
    path = (volume["spec"].get("hostPath") or {}).get("path", "")
    if path and not path.startswith("/tmp/"):
        return f"host_path deleter only supports /tmp/.+ but received provided {path}"
    return f'error getting deleter volume plugin for volume "{volume["metadata"]["name"]}": no deletable volume plugin matched'
