"""Templates: what pods made from the same template have in common for the scheduler, parsed once.

Two pods share a template when everything that a plugin looks at is equal: namespace, labels, requests, selectors, affinity,
tolerations, spreading, ports, volumes, owner. What is worked out for one of them (masks, scores) holds for the others, so the
decisions of this module's users are keyed by the template.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import orjson

from kubelite.meta import selectors
from kubelite.meta.selectors import LabelSelector
from kubelite.meta.types import Obj
from kubelite.scheduler import resources
from kubelite.scheduler.resources import Amounts
from kubelite.scheduler.terms import PodTerms, parse_terms

#: (protocol, host port, host IP); an IP of 0.0.0.0 stands for all.
HostPort = tuple[str, int, str]

DEFAULT_SCHEDULER = "default-scheduler"

_SPEC_FIELDS = (
    "nodeName",
    "nodeSelector",
    "affinity",
    "tolerations",
    "topologySpreadConstraints",
    "overhead",
    "resources",
    "resourceClaims",
)
_CONTAINER_FIELDS = ("name", "resources", "ports", "image", "restartPolicy")
#: Sources of volumes that the pods of a node can't share, or only for reading, and the fields that say which disk it is.
_DISKS: Mapping[str, tuple[str, ...]] = {
    "gcePersistentDisk": ("pdName",),
    "awsElasticBlockStore": ("volumeID",),
    "iscsi": ("iqn",),
    "rbd": ("pool", "image"),
}
#: The volumes that scheduling looks at.
_VOLUMES = frozenset(("persistentVolumeClaim", "ephemeral", *_DISKS))


@dataclass(frozen=True, slots=True)
class SpreadConstraint:
    """One of a pod's topologySpreadConstraints, with its defaults."""

    topology_key: str
    max_skew: int
    required: bool
    selector: LabelSelector
    min_domains: int = 1
    honor_affinity: bool = True
    honor_taints: bool = False


@dataclass(frozen=True, slots=True)
class ClaimUse:
    """A persistent volume claim that a pod uses. One for an ephemeral volume must be its own: `owner` is its name and UID."""

    name: str
    owner: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that a pod names itself. Two uses of one `key` that `monitors` don't keep apart exclude each other, unless both only
    read (of AWS' disks not even then)."""

    key: tuple[str, ...]
    read_only: bool
    monitors: frozenset[str] = frozenset()

    def conflicts(self, other: "Disk") -> bool:
        if self.key != other.key or (self.read_only and other.read_only):
            return False
        return not self.monitors or not self.monitors.isdisjoint(other.monitors)


@dataclass(eq=False)
class Template:
    """Immutable; compared and hashed by identity, since `Templates` makes only one of each."""

    signature: bytes
    namespace: str
    labels: dict[str, str]
    spec: Obj
    owner: Obj | None
    requests: Amounts
    #: (CPU, memory) with stand-ins for what containers don't request, while it looks for a node and once it has one.
    compared: tuple[int, int]
    counted: tuple[int, int]
    host_ports: tuple[HostPort, ...]
    claims: tuple[ClaimUse, ...]
    disks: tuple[Disk, ...]
    terms: PodTerms
    spread: tuple[SpreadConstraint, ...]
    #: The image of each container, normalized as nodes list them.
    images: tuple[str, ...]
    tolerations: list[Obj] = field(default_factory=list)

    @property
    def required_node_terms(self) -> list[Obj] | None:
        """The terms of the required node affinity; None where there is none."""
        required = self._node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
        return None if required is None else required.get("nodeSelectorTerms") or []

    @property
    def preferred_node_terms(self) -> list[Obj]:
        return self._node_affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or []

    @property
    def _node_affinity(self) -> Obj:
        return (self.spec.get("affinity") or {}).get("nodeAffinity") or {}


class Templates:
    """Finds the template of a pod. Templates live as long as a pod of theirs does."""

    def __init__(self) -> None:
        self._by_signature: WeakValueDictionary[bytes, Template] = WeakValueDictionary()

    def of(self, pod: Obj) -> Template:
        signature = signature_of(pod)
        template = self._by_signature.get(signature)
        if template is None:
            template = self._by_signature[signature] = parse(pod, signature)
        return template

    def __len__(self) -> int:
        return len(self._by_signature)


def _controller(meta: Obj) -> Obj | None:
    return next((owner for owner in meta.get("ownerReferences") or () if owner.get("controller")), None)


def signature_of(pod: Obj) -> bytes:
    """The bytes that are equal for pods which no plugin can tell apart."""
    meta, spec = pod["metadata"], pod["spec"]
    parts: list[Any] = [meta.get("namespace", ""), meta.get("labels"), [spec.get(name) for name in _SPEC_FIELDS]]
    parts += [
        [[container.get(name) for name in _CONTAINER_FIELDS] for container in spec.get(group) or ()]
        for group in ("containers", "initContainers")
    ]
    owner = _controller(meta)
    if owner:
        parts.append([owner.get("kind"), owner.get("name"), owner.get("apiVersion")])
    volumes = [volume for volume in spec.get("volumes") or () if not _VOLUMES.isdisjoint(volume)]
    if volumes:
        parts.append(volumes)
        if any("ephemeral" in volume for volume in volumes):
            parts.append([meta["name"], meta.get("uid")])
    resized = resources.resized(pod)
    if resized:
        parts.append(resized)
    return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)


def parse(pod: Obj, signature: bytes) -> Template:
    meta, spec = pod["metadata"], pod["spec"]
    namespace = meta.get("namespace", "")
    labels = meta.get("labels") or {}
    resized = resources.resized(pod)
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    return Template(
        signature=signature,
        namespace=namespace,
        labels=labels,
        spec=spec,
        owner=_controller(meta),
        requests={name: amount for name, amount in resources.of_pod(spec, resized=resized).items() if amount},
        compared=resources.looking_for_a_node(spec),
        counted=resources.on_its_node(spec, resized),
        host_ports=host_ports(spec),
        claims=tuple(claims(pod)),
        disks=tuple(disks(spec)),
        terms=parse_terms(spec.get("affinity"), namespace),
        spread=tuple(parse_constraint(c, labels) for c in spec.get("topologySpreadConstraints") or ()),
        images=tuple(normalized_image(container.get("image", "")) for container in containers),
        tolerations=spec.get("tolerations") or [],
    )


def host_ports(spec: Obj) -> tuple[HostPort, ...]:
    """The host ports of a pod's containers and sidecars."""
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    return tuple(
        (port.get("protocol") or "TCP", port["hostPort"], port.get("hostIP") or "0.0.0.0")
        for container in [*(spec.get("containers") or ()), *sidecars]
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


def claims(pod: Obj) -> Iterator[ClaimUse]:
    """In the order of the volumes: the first that is not there is the one that is told of."""
    meta = pod["metadata"]
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            yield ClaimUse(volume["persistentVolumeClaim"]["claimName"])
        elif "ephemeral" in volume:
            yield ClaimUse(f"{meta['name']}-{volume['name']}", (meta["name"], meta.get("uid", "")))


def disks(spec: Obj) -> Iterator[Disk]:
    for volume in spec.get("volumes") or ():
        for kind, fields in _DISKS.items():
            source = volume.get(kind)
            if source is not None:
                key = (kind, *(str(source.get(name, "")) for name in fields))
                read_only = bool(source.get("readOnly")) and kind != "awsElasticBlockStore"
                yield Disk(key, read_only, frozenset(source.get("monitors") or ()))


def normalized_image(image: str) -> str:
    """As nodes list it: with a tag."""
    return image if ":" in image.rsplit("/", 1)[-1] else f"{image}:latest"


def parse_constraint(constraint: Obj, labels: dict[str, str]) -> SpreadConstraint:
    try:
        selector = selectors.from_object(constraint.get("labelSelector"))
    except ValueError:
        selector = selectors.NOTHING
    keys = [key for key in constraint.get("matchLabelKeys") or () if key in labels]
    if keys and not selector.nothing:
        same = selectors.from_labels({key: labels[key] for key in keys})
        selector = LabelSelector((*selector.requirements, *same.requirements))
    return SpreadConstraint(
        topology_key=constraint["topologyKey"],
        max_skew=constraint["maxSkew"],
        required=constraint.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule",
        selector=selector,
        min_domains=constraint.get("minDomains") or 1,
        honor_affinity=constraint.get("nodeAffinityPolicy", "Honor") == "Honor",
        honor_taints=constraint.get("nodeTaintsPolicy", "Ignore") == "Honor",
    )
