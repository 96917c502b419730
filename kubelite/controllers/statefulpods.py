"""The pods and claims of a StatefulSet: names, identity, who owns which claim, and the counts of its status. Pure.

Source: kubernetes pkg/controller/statefulset/stateful_set_utils.go, v1.34.
"""

import re
from collections.abc import Mapping, Sequence

from kubelite.controllers import owners, pods
from kubelite.meta.copies import deep_copy
from kubelite.meta.types import Obj, OwnerReference

REVISION_LABEL = "controller-revision-hash"
HASH_LABEL = "controller.kubernetes.io/hash"
NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"

_split = re.compile(r"(.*)-([0-9]+)").fullmatch


def ordinal_of(owner: Obj, pod: Obj) -> int:
    """The pod's number in the set; -1 where its name is none of the set's."""
    match = _split(pod["metadata"]["name"])
    if match is None or match.group(1) != owner["metadata"]["name"]:
        return -1
    return int(match.group(2)) if len(match.group(2)) < 10 else -1


def start_of(owner: Obj) -> int:
    first: int = (owner["spec"].get("ordinals") or {}).get("start", 0)
    return first


def size_of(owner: Obj) -> int:
    count: int = owner["spec"].get("replicas", 1)
    return count


def is_in_range(owner: Obj, ordinal: int) -> bool:
    return start_of(owner) <= ordinal < start_of(owner) + size_of(owner)


def is_rolling(owner: Obj) -> bool:
    return bool((owner["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate")


def partition_of(owner: Obj) -> int:
    rolling = (owner["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    found: int = rolling.get("partition", 0)
    return found


def is_parallel(owner: Obj) -> bool:
    return bool(owner["spec"].get("podManagementPolicy") == "Parallel")


def revision_of(pod: Obj) -> str:
    """The name of the revision that the pod was made from."""
    return str((pod["metadata"].get("labels") or {}).get(REVISION_LABEL, ""))


def is_running_and_ready(pod: Obj) -> bool:
    return pods.phase(pod) == "Running" and pods.is_ready(pod)


def is_available(owner: Obj, pod: Obj, now: float) -> bool:
    return is_running_and_ready(pod) and pods.is_available(pod, owner["spec"].get("minReadySeconds", 0), now)


def is_healthy(owner: Obj, pod: Obj | None, now: float) -> bool:
    """There, available, and not going."""
    return pod is not None and is_available(owner, pod, now) and not pods.is_terminating(pod)


def wants_current(owner: Obj, update_name: str, ordinal: int) -> bool:
    """A pod made now for this number is to be of the old template: the rolling update has not come to it."""
    status = owner.get("status") or {}
    if not is_rolling(owner) or status.get("currentRevision", update_name) == update_name:
        return False
    if (owner["spec"].get("updateStrategy") or {}).get("rollingUpdate") is None:
        return bool(ordinal < start_of(owner) + status.get("currentReplicas", 0))
    return ordinal < start_of(owner) + partition_of(owner)


def template_of(revision: Obj) -> Obj:
    """The template that a revision keeps."""
    return {key: value for key, value in revision["data"]["spec"]["template"].items() if key != "$patch"}


def new_pod(owner: Obj, template: Obj, revision: str, ordinal: int) -> Obj:
    """The pod of that number, with its name, network identity and claims."""
    meta = owner["metadata"]
    name = f"{meta['name']}-{ordinal}"
    reference = owners.reference_to(owner, "apps/v1", "StatefulSet")
    pod = pods.from_template(template, reference, namespace=meta["namespace"], prefix=pods.name_prefix(meta["name"]), name=name)
    pod["metadata"]["labels"] |= {REVISION_LABEL: revision, NAME_LABEL: name, INDEX_LABEL: str(ordinal)}
    spec = pod["spec"]
    spec["hostname"] = name
    if owner["spec"].get("serviceName"):
        spec["subdomain"] = owner["spec"]["serviceName"]
    if claims := claims_of(owner, ordinal):
        spec["volumes"] = _volumes(spec, claims)
    return pod


def claims_of(owner: Obj, ordinal: int) -> dict[str, str]:
    """The names of the claims of one number, by the volumes that they are."""
    return {template["metadata"]["name"]: claim_name(owner, template, ordinal) for template in claim_templates(owner)}


def _volumes(spec: Obj, claims: Mapping[str, str]) -> list[Obj]:
    """A pod's volumes, the claims first."""
    ours = [{"name": volume, "persistentVolumeClaim": {"claimName": name}} for volume, name in claims.items()]
    return ours + [v for v in spec.get("volumes") or () if v["name"] not in claims]


def claim_templates(owner: Obj) -> Sequence[Obj]:
    found: Sequence[Obj] = owner["spec"].get("volumeClaimTemplates") or ()
    return found


def claim_name(owner: Obj, template: Obj, ordinal: int) -> str:
    return f"{template['metadata']['name']}-{owner['metadata']['name']}-{ordinal}"


def new_claim(owner: Obj, template: Obj, ordinal: int) -> Obj:
    """The claim of that number of one of the set's claim templates."""
    claim = deep_copy(template)
    meta = {key: value for key, value in claim["metadata"].items() if key in ("labels", "annotations", "finalizers")}
    meta["labels"] = {**(meta.get("labels") or {}), **(owner["spec"]["selector"].get("matchLabels") or {})}
    meta |= {"name": claim_name(owner, template, ordinal), "namespace": owner["metadata"]["namespace"]}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": claim["spec"]}


def retention_of(owner: Obj) -> tuple[bool, bool]:
    """(delete claims with the set, delete claims of pods that scaling takes away)."""
    policy = owner["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return policy.get("whenDeleted") == "Delete", policy.get("whenScaled") == "Delete"


def _names(reference: OwnerReference, api_version: str, kind: str, name: str) -> bool:
    return (reference["apiVersion"], reference["kind"], reference["name"]) == (api_version, kind, name)


def _references(claim: Obj) -> list[OwnerReference]:
    found: list[OwnerReference] = claim["metadata"].get("ownerReferences") or []
    return found


def _is_ours(reference: OwnerReference, owner: Obj, pod: Obj) -> bool:
    set_name, pod_name = owner["metadata"]["name"], pod["metadata"]["name"]
    return _names(reference, "apps/v1", "StatefulSet", set_name) or _names(reference, "v1", "Pod", pod_name)


def has_conflict(owner: Obj, pod: Obj, claim: Obj) -> bool:
    """Somebody else controls the claim, so that the set's retention policy can't count."""
    return any(retention_of(owner)) and any(r.get("controller") and not _is_ours(r, owner, pod) for r in _references(claim))


def claim_owners(owner: Obj, pod: Obj, claim: Obj) -> list[OwnerReference] | None:
    """The owner references that the claim of a pod should have by the set's retention policy; None where it has them."""
    ours = [r for r in _references(claim) if _is_ours(r, owner, pod)]
    uids = {owner["metadata"]["uid"], pod["metadata"].get("uid")}
    if any(r["uid"] not in uids for r in ours):
        return None  # left to the garbage collector, whose business an owner that is gone is
    wanted: list[OwnerReference] = []
    if not has_conflict(owner, pod, claim):
        with_set, with_scale = retention_of(owner)
        condemned = not is_in_range(owner, ordinal_of(owner, pod))
        if with_scale and condemned:
            wanted = [owners.reference_to(pod, "v1", "Pod")]
        elif with_set:
            wanted = [owners.reference_to(owner, "apps/v1", "StatefulSet")]
    controlled = [(r["uid"], r.get("controller", False)) for r in ours]
    if controlled == [(r["uid"], True) for r in wanted]:
        return None
    return [r for r in _references(claim) if not _is_ours(r, owner, pod)] + wanted


def repaired(owner: Obj, pod: Obj) -> Obj | None:
    """The pod with the identity and the volumes of its number; None where it has them."""
    meta, spec = pod["metadata"], pod["spec"]
    ordinal = ordinal_of(owner, pod)
    name, labels = f"{owner['metadata']['name']}-{ordinal}", meta.get("labels") or {}
    mounted = {v["name"]: (v.get("persistentVolumeClaim") or {}).get("claimName") for v in spec.get("volumes") or ()}
    claims = claims_of(owner, ordinal)
    if meta["name"] == name == labels.get(NAME_LABEL) and claims.items() <= mounted.items():
        return None
    changed = {**meta, "labels": {**labels, NAME_LABEL: name, INDEX_LABEL: str(ordinal)}}
    return {**pod, "metadata": changed, "spec": {**spec, "volumes": _volumes(spec, claims)} if claims else spec}


def is_stale(owner: Obj, pod_name: str, claim: Obj) -> bool:
    """The claim belongs to an earlier pod of the name and goes with it: a new pod must wait for a new claim."""
    if not retention_of(owner)[1]:
        return False
    return any(_names(r, "v1", "Pod", pod_name) for r in claim["metadata"].get("ownerReferences") or ())


def status_of(owner: Obj, owned: Sequence[Obj], current: str, update: str, collisions: int, now: float, outdated: int = 0) -> Obj:
    """The status of a set with these pods, `current` and `update` being the names of its revisions. `outdated`: so many pods
    are being deleted because they are of an old template.
    """
    staying = [p for p in owned if not pods.is_terminating(p)]
    replicas, ready = len(owned), sum(map(is_running_and_ready, owned))
    updated = sum(revision_of(p) == update for p in staying)
    of_current = sum(revision_of(p) == current for p in staying) - outdated
    size = size_of(owner)
    if is_rolling(owner) and updated == ready == replicas == size:
        current, of_current = update, updated
    status: Obj = {
        "replicas": replicas,
        "availableReplicas": sum(is_available(owner, p, now) for p in owned),
        "currentRevision": current,
        "updateRevision": update,
        "collisionCount": collisions,
    }
    counts = {"readyReplicas": ready, "currentReplicas": of_current, "updatedReplicas": updated}
    counts["observedGeneration"] = owner["metadata"].get("generation", 0)
    return status | {key: value for key, value in counts.items() if value}
