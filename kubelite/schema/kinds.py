"""The table of kinds: what each is called, where it is served, what can be done with it.

A `Kind` is one row: one kind in one served version. Rows of one group and resource share their stored objects (the
`storage_version` is the one they are written in). Built-in rows come from `builtin`, custom ones are added and removed as
CustomResourceDefinitions come and go; every lookup sees the table as it is at that moment.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Subresource:
    """One subresource of a kind: its name in the URL (`status`, `scale`, `eviction`, `log`), the kind that its bodies have
    (group and version empty: the parent's), and its verbs."""

    name: str
    kind: str
    group: str = ""
    version: str = ""
    verbs: tuple[str, ...] = ("get", "patch", "update")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Kind:
    """One kind in one served version. Compared by identity: the table holds one row for each."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    verbs: tuple[str, ...] = ALL_VERBS
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: Mapping[str, Subresource] = field(default_factory=dict)
    #: Fields beyond metadata.name and metadata.namespace that field selectors may use, as paths: ("spec.nodeName", ...).
    selectable_fields: tuple[str, ...] = ()
    #: The name in the published definitions, such as io.k8s.api.core.v1.Pod; empty for custom kinds.
    definition: str = ""
    #: The group and version in which objects are stored, where it is not this row's own.
    stored_as: tuple[str, str] | None = None
    list_kind: str = ""
    custom: bool = False
    #: For a custom kind: the version entry of its CustomResourceDefinition (schema, columns, selectable fields), else None.
    crd_version: Mapping[str, object] | None = None

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """`deployments.apps`, `pods`: how components and messages name a resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def prefix(self) -> str:
        """The store's prefix of every object of this resource: `/pods/`, `/deployments.apps/`. No kind's prefix is a prefix of
        another's, since each ends with a slash and has exactly one segment."""
        group, _ = self.stored_as or (self.group, self.version)
        return f"/{self.plural}.{group}/" if group else f"/{self.plural}/"

    def namespace_prefix(self, namespace: str) -> str:
        """The store's prefix of a namespace's objects; of all of them where `namespace` is empty."""
        return f"{self.prefix}{namespace}/" if namespace else self.prefix

    def key(self, namespace: str, name: str) -> str:
        """The store's key of an object: `/pods/default/web`, `/nodes/n1`."""
        return f"{self.prefix}{namespace}/{name}" if self.namespaced else f"{self.prefix}{name}"


class Kinds:
    """The table. Built once by the composition root, shared by all parts, changed only by the CRD part of the registry."""

    def __init__(self) -> None:
        self._by_resource: dict[tuple[str, str, str], Kind] = {}
        self._by_kind: dict[tuple[str, str, str], Kind] = {}
        #: Counts changes, so that what is derived from the table (discovery, OpenAPI) knows when it is stale.
        self.generation = 0

    def add(self, kind: Kind) -> None:
        self._by_resource[kind.group, kind.version, kind.plural] = kind
        self._by_kind[kind.group, kind.version, kind.kind] = kind
        self.generation += 1

    def remove(self, kind: Kind) -> None:
        if self._by_resource.pop((kind.group, kind.version, kind.plural), None) is not None:
            self.generation += 1
        self._by_kind.pop((kind.group, kind.version, kind.kind), None)

    def resource(self, group: str, version: str, plural: str) -> Kind | None:
        """The row that a URL names."""
        return self._by_resource.get((group, version, plural))

    def of_kind(self, api_version: str, kind: str) -> Kind | None:
        """The row that an object's apiVersion and kind name."""
        group, _, version = api_version.rpartition("/")
        return self._by_kind.get((group, version, kind))

    def preferred(self, group_resource: str) -> Kind:
        """The row of the group's preferred version that serves `deployments.apps` or `pods`.

        Raises:
            KeyError: nothing serves it.
        """
        plural, _, group = group_resource.partition(".")
        for version in self.versions(group):
            kind = self._by_resource.get((group, version, plural))
            if kind is not None:
                return kind
        raise KeyError(group_resource)

    def versions(self, group: str) -> list[str]:
        """The served versions of a group, the preferred one first (GA over beta over alpha, higher numbers first)."""
        found = {v for g, v, _ in self._by_resource if g == group}
        return sorted(found, key=version_priority, reverse=True)

    def groups(self) -> list[str]:
        """The served groups, the core group ("") among them, each once."""
        return list(dict.fromkeys(g for g, _, _ in self._by_resource))

    def __iter__(self) -> Iterator[Kind]:
        return iter(list(self._by_resource.values()))


def version_priority(version: str) -> tuple[int, int, int, str]:
    """A sort key that puts v2 over v1 over v1beta2 over v1beta1 over v1alpha1 over names of no such form.

    Source: apimachinery pkg/version CompareKubeAwareVersionStrings.
    """
    import re

    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if match is None:
        return (-1, 0, 0, version)
    major, stage, minor = match.groups()
    rank = {None: 2, "beta": 1, "alpha": 0}[stage]
    return (rank, int(major), int(minor or 0), "")
