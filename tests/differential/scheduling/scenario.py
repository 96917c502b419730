"""Scenarios: the objects that a cluster holds, and what then happens in it, step by step.

A scenario has `given`, the objects that are there when the scheduler starts, and `steps`: `create`, `update` and `delete` an
object, one after the other. An object is written briefly, as its kind and its fields; those of its metadata stand among the
others, and what nearly all objects of a kind have may be left out:

    Node: {name: n1, allocatable: {cpu: "2"}, labels: {disk: ssd}}
    Pod: {name: web, node: n1, requests: {cpu: 500m}, spec: {tolerations: [{operator: Exists}]}}

`node` binds a pod, `requests` are those of its first container. A pod with a `deletionTimestamp` is being deleted. `update`
changes only what is written, but of a node all.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kubelite.meta.types import Obj

HOSTNAME = "kubernetes.io/hostname"

#: The kinds that scenarios have, in the order in which they are created: API version, resource, whether in a namespace.
KINDS: Mapping[str, tuple[str, str, bool]] = {
    "Namespace": ("v1", "namespaces", False),
    "PriorityClass": ("scheduling.k8s.io/v1", "priorityclasses", False),
    "RuntimeClass": ("node.k8s.io/v1", "runtimeclasses", False),
    "StorageClass": ("storage.k8s.io/v1", "storageclasses", False),
    "CSIDriver": ("storage.k8s.io/v1", "csidrivers", False),
    "CSINode": ("storage.k8s.io/v1", "csinodes", False),
    "CSIStorageCapacity": ("storage.k8s.io/v1", "csistoragecapacities", True),
    "PersistentVolume": ("v1", "persistentvolumes", False),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims", True),
    "VolumeAttachment": ("storage.k8s.io/v1", "volumeattachments", False),
    "Service": ("v1", "services", True),
    "ReplicationController": ("v1", "replicationcontrollers", True),
    "ReplicaSet": ("apps/v1", "replicasets", True),
    "StatefulSet": ("apps/v1", "statefulsets", True),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets", True),
    "Node": ("v1", "nodes", False),
    "Pod": ("v1", "pods", True),
}
_METADATA = ("name", "namespace", "labels", "annotations", "ownerReferences", "deletionTimestamp")

Verb = Literal["create", "update", "delete"]


@dataclass(frozen=True)
class Step:
    verb: Verb
    obj: Obj


@dataclass(frozen=True)
class Scenario:
    name: str
    given: tuple[Obj, ...]
    steps: tuple[Step, ...]


def parse(name: str, written: Mapping[str, Any]) -> Scenario:
    given = sorted((obj for brief in written["given"] for obj in _objects("create", brief)), key=_rank)
    steps = [Step(verb, obj) for step in written["steps"] for verb, brief in step.items() for obj in _objects(verb, brief)]
    return Scenario(name, tuple(given), tuple(steps))


def _rank(obj: Obj) -> int:
    return [*KINDS].index(obj["kind"])


def _objects(verb: Verb, brief: Mapping[str, Any]) -> Iterator[Obj]:
    for kind, fields in brief.items():
        for each in fields if isinstance(fields, list) else [fields]:
            yield complete(kind, each) if verb == "create" or kind == "Node" else plain(kind, each)


def plain(kind: str, fields: Mapping[str, Any]) -> Obj:
    """The object that a brief form stands for, nothing added."""
    version, _, namespaced = KINDS[kind]
    rest = {key: value for key, value in fields.items() if key not in _METADATA}
    meta = {key: fields[key] for key in _METADATA if key in fields}
    if namespaced:
        meta.setdefault("namespace", "default")
    return {"apiVersion": version, "kind": kind, "metadata": meta, **rest}


def complete(kind: str, fields: Mapping[str, Any]) -> Obj:
    """The same with what nearly all objects of the kind have."""
    obj = plain(kind, fields)
    match kind:
        case "Node":
            _complete_node(obj)
        case "Pod":
            _complete_pod(obj)
        case "ReplicaSet" | "StatefulSet":
            labels = obj["spec"]["selector"].get("matchLabels") or {}
            template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "web:1"}]}}
            obj["spec"] = {"template": template, **obj["spec"]}
    return obj


def _complete_node(node: Obj) -> None:
    meta = node["metadata"]
    labels = {HOSTNAME: meta["name"], **(meta.get("labels") or {})}
    meta["labels"] = {key: value for key, value in labels.items() if value is not None}
    allocatable = {"cpu": "4", "memory": "8Gi", "pods": "110", **node.pop("allocatable", {})}
    node["status"] = {"capacity": allocatable, "allocatable": allocatable, **node.get("status", {})}


def _complete_pod(pod: Obj) -> None:
    spec = pod.setdefault("spec", {})
    if "containers" not in spec:
        spec["containers"] = [{"name": "main", "image": "web:1"}]
    if "requests" in pod:
        requests = pod.pop("requests")
        # Of an extended resource the limit has to be there too.
        limits = {name: amount for name, amount in requests.items() if "/" in name or name.startswith("hugepages-")}
        spec["containers"][0] = {**spec["containers"][0], "resources": {"requests": requests, "limits": limits}}
    if "node" in pod:
        spec["nodeName"] = pod.pop("node")
    spec["automountServiceAccountToken"] = False


def resource_of(kind: str) -> str:
    """As components name it: `storageclasses.storage.k8s.io`."""
    version, resource, _ = KINDS[kind]
    group, _, _ = version.rpartition("/")
    return f"{resource}.{group}" if group else resource


def key_of(obj: Obj) -> str:
    """`namespace/name`, or the name alone."""
    meta = obj["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])
