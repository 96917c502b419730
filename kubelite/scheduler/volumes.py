"""Claims, volumes and storage classes as the scheduler sees them: which nodes a pod's claims allow, and what is to be bound
once a node is chosen.

A bound claim allows the nodes of its volume. A claim that waits for its first consumer (WaitForFirstConsumer) takes a volume
that is there and fits, or is provisioned for the chosen node. Volumes that were chosen and not bound yet are remembered, so
that two pods don't get the same.

Source: plugins/volumebinding (binder.go), v1.34.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kubelite.meta import quantities, selectors
from kubelite.meta.types import Obj
from kubelite.scheduler.framework import Failure, Refusal
from kubelite.scheduler.plugins import nodeaffinity
from kubelite.scheduler.snapshot import Mask, Snapshot
from kubelite.scheduler.templates import Template

PLUGIN = "VolumeBinding"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
BOUND_BY_BINDER = "pv.kubernetes.io/bind-completed"
SELECTED_NODE = "volume.kubernetes.io/selected-node"

WRONG_NODE = "node(s) didn't match PersistentVolume's node affinity"
NO_VOLUME = "node(s) didn't find available persistent volumes to bind"
GONE_VOLUME = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"


@dataclass(frozen=True, slots=True)
class Binding:
    """What one claim needs before its pod is bound: this volume, or (None) to be provisioned for the node."""

    claim: Obj
    volume: Obj | None


class Volumes:
    """Kept current by the scheduler's event handlers."""

    def __init__(self) -> None:
        self.claims: dict[tuple[str, str], Obj] = {}
        self.volumes: dict[str, Obj] = {}
        self.classes: dict[str, Obj] = {}
        #: Chosen volumes by name, and the claim (namespace/name) each is for.
        self.assumed: dict[str, str] = {}

    def claim_changed(self, old: Obj | None, new: Obj | None) -> None:
        meta = (new or old or {})["metadata"]
        key = meta["namespace"], meta["name"]
        if new is None:
            self.claims.pop(key, None)
        else:
            self.claims[key] = new
        if new is None or is_bound(new):
            self.forget_claim(f"{key[0]}/{key[1]}")

    def volume_changed(self, old: Obj | None, new: Obj | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        if new is None:
            self.volumes.pop(name, None)
            self.assumed.pop(name, None)
        else:
            self.volumes[name] = new

    def class_changed(self, old: Obj | None, new: Obj | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        if new is None:
            self.classes.pop(name, None)
        else:
            self.classes[name] = new

    def forget_claim(self, claim: str) -> None:
        for name in [name for name, owner in self.assumed.items() if owner == claim]:
            del self.assumed[name]

    # Filtering

    def failures(self, snapshot: Snapshot, template: Template) -> Sequence[Failure]:
        """The nodes that the template's claims don't allow. Raises Refusal where none can be."""
        waiting, unbound_now = [], False
        gone, wrong, none = (np.zeros(snapshot.size, np.bool_) for _ in range(3))
        for claim in self._claims_of(template):
            if is_bound(claim):
                volume = self.volumes.get(claim["spec"]["volumeName"])
                if volume is None:
                    gone[:] = True
                else:
                    wrong |= ~self._allowed(snapshot, volume)
            elif self._waits(claim):
                waiting.append(claim)
            else:
                unbound_now = True
        if unbound_now:
            raise Refusal(PLUGIN, "pod has unbound immediate PersistentVolumeClaims")
        for claim in waiting:
            none |= ~self._satisfiable(snapshot, claim)
        masks = ((WRONG_NODE, wrong), (NO_VOLUME, none), (GONE_VOLUME, gone))
        return [Failure(reason, mask, unresolvable=True) for reason, mask in masks if mask.any()]

    def _claims_of(self, template: Template) -> list[Obj]:
        found = []
        for name in template.claims:
            claim = self.claims.get((template.namespace, name))
            if claim is None:
                raise Refusal(PLUGIN, f'persistentvolumeclaim "{name}" not found')
            if claim["metadata"].get("deletionTimestamp"):
                raise Refusal(PLUGIN, f'persistentvolumeclaim "{name}" is being deleted')
            if (claim.get("status") or {}).get("phase") == "Lost":
                volume = (claim.get("spec") or {}).get("volumeName", "")
                raise Refusal(PLUGIN, f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"')
            found.append(claim)
        return found

    def _waits(self, claim: Obj) -> bool:
        if claim["spec"].get("volumeName"):  # a volume was named beforehand: that is for the volume controller to bind
            return False
        storage_class = self.classes.get(claim["spec"].get("storageClassName") or "")
        return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"

    @staticmethod
    def _allowed(snapshot: Snapshot, volume: Obj) -> Mask:
        terms = (((volume.get("spec") or {}).get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms")
        return np.ones(snapshot.size, np.bool_) if terms is None else nodeaffinity.matches_any(snapshot, terms)

    def _satisfiable(self, snapshot: Snapshot, claim: Obj) -> Mask:
        """The nodes where a volume is there for the claim, or one can be provisioned."""
        mask = np.zeros(snapshot.size, np.bool_)
        selected = (claim["metadata"].get("annotations") or {}).get(SELECTED_NODE)
        for volume in self._candidates(claim):
            mask |= self._allowed(snapshot, volume)
        storage_class = self.classes[claim["spec"]["storageClassName"]]
        if storage_class.get("provisioner") not in (None, "", NO_PROVISIONER):
            topologies = storage_class.get("allowedTopologies")
            mask |= nodeaffinity.matches_any(snapshot, map(_as_node_term, topologies)) if topologies else True
        if selected and selected in snapshot.rows:  # provisioning for that node has begun
            only = np.zeros(snapshot.size, np.bool_)
            only[snapshot.rows[selected]] = True
            mask &= only
        return mask

    def _candidates(self, claim: Obj) -> list[Obj]:
        """Volumes that would do for a claim, the smallest first."""
        spec = claim["spec"]
        wanted = quantities.value(((spec.get("resources") or {}).get("requests") or {}).get("storage", "0"))
        own = f"{claim['metadata']['namespace']}/{claim['metadata']['name']}"
        selector = selectors.from_object(spec["selector"]) if spec.get("selector") else selectors.EVERYTHING
        found = []
        for name, volume in self.volumes.items():
            offer = volume["spec"]
            reference = offer.get("claimRef")
            if reference and f"{reference.get('namespace')}/{reference.get('name')}" != own:
                continue
            if self.assumed.get(name, own) != own or volume["metadata"].get("deletionTimestamp"):
                continue
            if not reference and (volume.get("status") or {}).get("phase") not in (None, "Available", "Pending"):
                continue
            if (offer.get("storageClassName") or "") != (spec.get("storageClassName") or ""):
                continue
            if (offer.get("volumeMode") or "Filesystem") != (spec.get("volumeMode") or "Filesystem"):
                continue
            if not set(spec.get("accessModes") or ()) <= set(offer.get("accessModes") or ()):
                continue
            size = quantities.value((offer.get("capacity") or {}).get("storage", "0"))
            if size >= wanted and selector.matches(volume["metadata"].get("labels")):
                found.append((not reference, size, name, volume))
        return [volume for *_, volume in sorted(found, key=lambda item: item[:3])]

    # After the decision

    def assume(self, snapshot: Snapshot, template: Template, node_name: str) -> list[Binding]:
        """Chooses what the template's waiting claims get on a node, and remembers the choice."""
        bindings = []
        row = snapshot.rows[node_name]
        for claim in self._claims_of(template):
            if is_bound(claim):
                continue
            fitting = [volume for volume in self._candidates(claim) if self._allowed(snapshot, volume)[row]]
            volume = fitting[0] if fitting else None
            if volume is not None:
                self.assumed[volume["metadata"]["name"]] = f"{claim['metadata']['namespace']}/{claim['metadata']['name']}"
            bindings.append(Binding(claim, volume))
        return bindings

    def forget(self, bindings: Sequence[Binding]) -> None:
        for binding in bindings:
            meta = binding.claim["metadata"]
            self.forget_claim(f"{meta['namespace']}/{meta['name']}")


def is_bound(claim: Obj) -> bool:
    annotated = BOUND_BY_BINDER in (claim["metadata"].get("annotations") or {})
    return bool(claim["spec"].get("volumeName")) and (annotated or (claim.get("status") or {}).get("phase") == "Bound")


def _as_node_term(topology: Obj) -> Obj:
    expressions = topology.get("matchLabelExpressions") or ()
    return {"matchExpressions": [{"key": e["key"], "operator": "In", "values": e.get("values") or []} for e in expressions]}
