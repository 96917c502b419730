"""Discovery: which groups, versions and resources are served, in every form that clients ask for.

All documents are derived from the table of kinds and kept until its generation changes.

Source: KEP-3352 (aggregated discovery); the order of groups: kube-apiserver's API service priorities, v1.34.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable

import orjson

from kubelite.meta.types import Obj
from kubelite.schema.kinds import Kind, Kinds, Subresource

#: Groups in the order in which upstream lists them; others follow, by name.
GROUP_ORDER = (
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
)
_RANK = {group: rank for rank, group in enumerate(GROUP_ORDER)}


def storage_version_hash(kind: Kind) -> str:
    group, version = kind.stored_as or (kind.group, kind.version)
    digest = hashlib.sha256(f"{group}/{version}/{kind.kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


class Discovery:
    """Makes the documents; `changed` when what other servers serve has changed."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        #: The groups that other servers serve, as items of an APIGroupDiscoveryList.
        self.aggregated: Callable[[], Iterable[Obj]] = tuple
        self._address = ""
        self._generation = -1
        self._documents: dict[str, tuple[bytes, str]] = {}

    def document(self, path: str) -> tuple[bytes, str] | None:
        """The document at `/api`, `/apis`, `/api/v1`, `/apis/GROUP` or `/apis/GROUP/VERSION`, and its ETag."""
        return self._cached(path, lambda: self._legacy(path))

    def aggregate(self, path: str, version: str) -> tuple[bytes, str] | None:
        """Every resource of `/api` or `/apis` in one APIGroupDiscoveryList."""
        return self._cached(f"{path}#{version}", lambda: self._everything(path, version))

    def use_address(self, address: str) -> None:
        """HOST:PORT of this server, which /api tells clients."""
        self._address = address
        self._documents.clear()

    def changed(self) -> None:
        """Forgets every document: what other servers serve has changed."""
        self._generation = -1

    def groups(self) -> list[str]:
        """The served groups but the core one, in order of priority."""
        found = [g for g in self._kinds.groups() if g]
        return sorted(found, key=lambda g: (_RANK.get(g, len(_RANK)), g))

    def _cached(self, key: str, make: Callable[[], Obj | None]) -> tuple[bytes, str] | None:
        if self._generation != self._kinds.generation:
            self._documents.clear()
            self._generation = self._kinds.generation
        found = self._documents.get(key)
        if found is None:
            obj = make()
            if obj is None:
                return None
            body = orjson.dumps(obj)
            found = self._documents[key] = (body, hashlib.sha512(body).hexdigest().upper())
        return found

    def _legacy(self, path: str) -> Obj | None:
        parts = path.strip("/").split("/")
        if parts == ["api"]:
            return {
                "kind": "APIVersions",
                "versions": self._kinds.versions(""),
                "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._address}],
            }
        if parts == ["apis"]:
            groups = [self._group(g) for g in self.groups()] + [_group_of(item) for item in self.aggregated()]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        if parts[0] == "api" and len(parts) == 2:
            return self._version("", parts[1])
        if parts[0] == "apis" and len(parts) == 2 and parts[1]:
            if self._kinds.versions(parts[1]):
                return {"kind": "APIGroup", "apiVersion": "v1", **self._group(parts[1])}
            other = next((item for item in self.aggregated() if item["metadata"]["name"] == parts[1]), None)
            return {"kind": "APIGroup", "apiVersion": "v1", **_group_of(other)} if other is not None else None
        if parts[0] == "apis" and len(parts) == 3:
            return self._version(parts[1], parts[2])
        return None

    def _group(self, group: str) -> Obj:
        versions = [{"groupVersion": f"{group}/{v}", "version": v} for v in self._kinds.versions(group)]
        return {"name": group, "versions": versions, "preferredVersion": versions[0]}

    def _kinds_of(self, group: str, version: str) -> list[Kind]:
        found = [k for k in self._kinds if k.group == group and k.version == version]
        return sorted(found, key=lambda k: k.plural)

    def _version(self, group: str, version: str) -> Obj | None:
        kinds = self._kinds_of(group, version)
        if not kinds:
            return None
        resources = []
        for kind in kinds:
            row: Obj = {
                "name": kind.plural,
                "singularName": kind.singular,
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": list(kind.verbs),
            }
            if kind.short_names:
                row["shortNames"] = list(kind.short_names)
            if kind.categories:
                row["categories"] = list(kind.categories)
            if "watch" in kind.verbs:
                row["storageVersionHash"] = storage_version_hash(kind)
            resources.append(row)
            for name in sorted(kind.subresources):
                sub = kind.subresources[name]
                row = {"name": f"{kind.plural}/{name}", "singularName": "", "namespaced": kind.namespaced}
                if sub.version:
                    row |= {"group": sub.group, "version": sub.version} if sub.group else {"version": sub.version}
                row |= {"kind": sub.kind, "verbs": list(sub.verbs)}
                resources.append(row)
        name = f"{group}/{version}" if group else version
        # The core group's list has no apiVersion of its own: it is older than the field.
        own = {"apiVersion": "v1"} if group else {}
        return {"kind": "APIResourceList", **own, "groupVersion": name, "resources": resources}

    def _everything(self, path: str, version: str) -> Obj:
        groups = [""] if path.strip("/") == "api" else self.groups()
        items: list[Obj] = [
            {
                "metadata": {"name": group} if group else {},
                "versions": [
                    {
                        "version": v,
                        "resources": [_resource(k) for k in self._kinds_of(group, v)],
                        "freshness": "Current",
                    }
                    for v in self._kinds.versions(group)
                ],
            }
            for group in groups
        ]
        if groups != [""]:
            items += self.aggregated()
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": f"apidiscovery.k8s.io/{version}",
            "metadata": {},
            "items": items,
        }


def _group_of(item: Obj) -> Obj:
    name = item["metadata"]["name"]
    versions = [{"groupVersion": f"{name}/{v['version']}", "version": v["version"]} for v in item["versions"]]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _resource(kind: Kind) -> Obj:
    # Upstream leaves a built-in kind's group and version blank where they are the resource's own, and fills in a custom one's.
    own = {"group": kind.group, "version": kind.version} if kind.custom else {"group": "", "version": ""}
    row: Obj = {
        "resource": kind.plural,
        "responseKind": {**own, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        row["shortNames"] = list(kind.short_names)
    if kind.categories:
        row["categories"] = list(kind.categories)
    if kind.subresources:
        row["subresources"] = [_subresource(kind, kind.subresources[name], own) for name in sorted(kind.subresources)]
    return row


def _subresource(kind: Kind, sub: Subresource, own: dict[str, str]) -> Obj:
    where = {"group": sub.group, "version": sub.version} if sub.version else own
    return {"subresource": sub.name, "responseKind": {**where, "kind": sub.kind}, "verbs": list(sub.verbs)}
