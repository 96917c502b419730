"""The node authorizer: a node reads what its own pods refer to, and writes itself, its lease and its pods' statuses.

What relates an object to a node is looked up when asked, over the pods that are bound to it: a node has about a hundred
pods and asks seldom, so a graph of all references would cost more memory than it saves time.

Source: plugin/pkg/auth/authorizer/node/node_authorizer.go; the rules are those with AuthorizeNodeWithSelectors.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from kubelite.auth import rules
from kubelite.auth.contract import Access, Decision
from kubelite.meta import pods
from kubelite.meta.types import Obj

#: The index of pods by the node that they are bound to; shared by every part that needs it.
NODE_INDEX = "node"
LEASE_NAMESPACE = "kube-node-lease"
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"

_ALLOW = Decision(True)
_NO_OPINION = Decision(None)


class _Informer(Protocol):
    def get(self, name: str, namespace: str = "") -> Obj | None: ...
    def add_index(self, name: str, keys: Callable[[Obj], Iterable[str]]) -> None: ...
    def by_index(self, name: str, key: str) -> list[Obj]: ...


class _Informers(Protocol):
    def of(self, resource: str) -> _Informer: ...


class NodeAuthorizer:
    """The authorizer. Has an opinion only of requests that a node makes."""

    def __init__(self, informers: _Informers) -> None:
        self._pods = informers.of("pods")
        self._pods.add_index(NODE_INDEX, by_node)
        self._claims = informers.of("persistentvolumeclaims")
        self._volumes = informers.of("persistentvolumes")
        self._attachments = informers.of("volumeattachments.storage.k8s.io")
        self._slices = informers.of("resourceslices.resource.k8s.io")

    def authorize(self, access: Access) -> Decision:
        node = access.user.node_name
        if not node:
            return _NO_OPINION
        if not access.path:
            match access.group, access.resource:
                case "", "secrets" | "configmaps" | "serviceaccounts" | "persistentvolumeclaims" | "persistentvolumes":
                    return self._reference(node, access)
                case ("resource.k8s.io", "resourceclaims") | ("storage.k8s.io", "volumeattachments"):
                    return self._reference(node, access)
                case "coordination.k8s.io", "leases":
                    return _lease(node, access)
                case "storage.k8s.io", "csinodes":
                    return _csi_node(node, access)
                case "resource.k8s.io", "resourceslices":
                    return self._slice(node, access)
                case "", "nodes":
                    return _node(node, access)
                case "", "pods":
                    return self._pod(node, access)
        if any(rule.matches(access.verb, access.group, access.resource, access.subresource) for rule in _RULES):
            return _ALLOW
        return _NO_OPINION

    def is_related(self, node: str, resource: str, namespace: str, name: str) -> bool:
        """Whether a pod on the node refers to the object."""
        match resource:
            case "secrets":
                return self._any_pod(node, namespace, lambda pod: name in pods.secrets(pod)) or self._volume_secret(
                    node, namespace, name
                )
            case "configmaps":
                return self._any_pod(node, namespace, lambda pod: name in pods.config_maps(pod))
            case "serviceaccounts":
                return self._any_pod(node, namespace, lambda pod: name == pods.service_account(pod))
            case "persistentvolumeclaims":
                return self._any_pod(node, namespace, lambda pod: name in pods.claims(pod))
            case "resourceclaims":
                return self._any_pod(node, namespace, lambda pod: name in pods.resource_claims(pod))
            case "pods":
                return self._any_pod(node, namespace, lambda pod: name == pod["metadata"]["name"], mirrors=True)
            case "persistentvolumes":
                claim = ((self._volumes.get(name) or {}).get("spec") or {}).get("claimRef") or {}
                return bool(claim) and self.is_related(
                    node, "persistentvolumeclaims", claim.get("namespace", ""), claim.get("name", "")
                )
            case "volumeattachments":
                attachment = self._attachments.get(name)
                return attachment is not None and attachment["spec"].get("nodeName") == node
        return False

    def _any_pod(self, node: str, namespace: str, test: Callable[[Obj], bool], *, mirrors: bool = False) -> bool:
        for pod in self._pods.by_index(NODE_INDEX, node):
            metadata = pod["metadata"]
            if metadata.get("namespace") != namespace:
                continue
            # A node writes its mirror pods itself, so what these refer to proves nothing.
            if not mirrors and MIRROR_ANNOTATION in (metadata.get("annotations") or {}):
                continue
            if test(pod):
                return True
        return False

    def _volume_secret(self, node: str, namespace: str, name: str) -> bool:
        """Whether a volume that a pod on the node uses needs the secret."""
        for pod in self._pods.by_index(NODE_INDEX, node):
            pod_namespace = pod["metadata"].get("namespace", "")
            for claim_name in pods.claims(pod):
                claim = self._claims.get(claim_name, pod_namespace)
                volume = self._volumes.get(((claim or {}).get("spec") or {}).get("volumeName") or "")
                for source in ((volume or {}).get("spec") or {}).values():
                    if isinstance(source, dict) and (namespace, name) in _volume_secrets(source, pod_namespace):
                        return True
        return False

    def _reference(self, node: str, access: Access) -> Decision:
        resource, subresource, verb = access.resource, access.subresource, access.verb
        if resource == "serviceaccounts" and (verb, subresource) != ("get", ""):
            if verb != "create" or not access.name:
                return Decision(None, "can only create tokens for individual service accounts")
            if subresource != "token":
                return Decision(None, "can only create token subresource of serviceaccount")
        elif resource == "persistentvolumeclaims" and subresource == "status":
            if verb not in ("update", "patch"):
                return Decision(None, "can only get/update/patch this type")
        elif resource in ("secrets", "configmaps", "serviceaccounts"):
            if verb not in ("get", "list", "watch"):
                return Decision(None, "can only read resources of this type")
            if subresource:
                return Decision(None, "cannot read subresource")
            if not access.namespace:
                return Decision(None, "can only read namespaced object of this type")
        elif verb != "get":
            return Decision(None, "can only get individual resources of this type")
        elif subresource:
            return Decision(None, "cannot get subresource")
        return self._related(node, access)

    def _related(self, node: str, access: Access) -> Decision:
        if not access.name:
            return Decision(None, "No Object name found")
        if self.is_related(node, access.resource, access.namespace, access.name):
            return _ALLOW
        return Decision(None, f"no relationship found between node '{node}' and this object")

    def _pod(self, node: str, access: Access) -> Decision:
        match access.subresource, access.verb:
            case "", "get":
                return self._related(node, access)
            case "", "list" | "watch":
                if _selects(access.field_selector, "spec.nodeName", node):
                    return _ALLOW
                if access.name:
                    return self._related(node, access)
                return Decision(None, "can only list/watch pods with spec.nodeName field selector")
            case ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create"):
                return _ALLOW
        return _NO_OPINION

    def _slice(self, node: str, access: Access) -> Decision:
        if access.subresource:
            return Decision(None, "cannot authorize ResourceSlice subresources")
        match access.verb:
            case "create":
                return _ALLOW
            case "get" | "update" | "patch" | "delete":
                found = self._slices.get(access.name)
                if found is not None and found["spec"].get("nodeName") == node:
                    return _ALLOW
                return Decision(None, f"no relationship found between node '{node}' and this object")
            case "list" | "watch" | "deletecollection" if _selects(access.field_selector, "spec.nodeName", node):
                return _ALLOW
        return Decision(None, "can only list/watch/deletecollection resourceslices with nodeName field selector")


def by_node(pod: Obj) -> tuple[str, ...]:
    """The key of NODE_INDEX."""
    node = pod["spec"].get("nodeName")
    return (node,) if node else ()


def _selects(field_selector: str, field: str, value: str) -> bool:
    wanted = (f"{field}={value}", f"{field}=={value}")
    return any(term.strip() in wanted for term in field_selector.split(","))


def _volume_secrets(source: Obj, claim_namespace: str) -> Iterable[tuple[str, str]]:
    """The secrets that a persistent volume's source names, as (namespace, name)."""
    for field, ref in source.items():
        if field.endswith("SecretRef") or field == "secretRef":
            if isinstance(ref, dict) and ref.get("name"):
                yield ref.get("namespace") or claim_namespace, ref["name"]
        elif field == "secretName" and isinstance(ref, str):
            yield source.get("secretNamespace") or claim_namespace, ref


def _lease(node: str, access: Access) -> Decision:
    if access.verb not in ("get", "create", "update", "patch", "delete"):
        return Decision(None, "can only get, create, update, patch, or delete a node lease")
    if access.namespace != LEASE_NAMESPACE:
        return Decision(None, f'can only access leases in the "{LEASE_NAMESPACE}" system namespace')
    if access.verb != "create" and access.name != node:
        return Decision(None, "can only access node lease with the same name as the requesting node")
    return _ALLOW


def _csi_node(node: str, access: Access) -> Decision:
    if access.verb not in ("get", "create", "update", "patch", "delete"):
        return Decision(None, "can only get, create, update, patch, or delete a CSINode")
    if access.subresource:
        return Decision(None, "cannot authorize CSINode subresources")
    if access.verb != "create" and access.name != node:
        return Decision(None, "can only access CSINode with the same name as the requesting node")
    return _ALLOW


def _node(node: str, access: Access) -> Decision:
    match access.subresource, access.verb:
        case ("", "create" | "update" | "patch") | ("status", "update" | "patch"):
            return _ALLOW
        case "", "get" | "list" | "watch":
            if access.name == node:
                return _ALLOW
            if not access.name:
                return Decision(None, f"node '{node}' cannot read all nodes, only its own Node object")
            return Decision(None, f"node '{node}' cannot read '{access.name}', only its own Node object")
    return _NO_OPINION


def _rule(verbs: str, group: str, resources: str) -> rules.Rule:
    return rules.Rule(tuple(verbs.split()), (group,), tuple(resources.split()))


#: What every node may do whatever runs on it; what depends on that is decided above.
_RULES = (
    _rule("create", "authentication.k8s.io", "tokenreviews"),
    _rule("create", "authorization.k8s.io", "subjectaccessreviews localsubjectaccessreviews"),
    _rule("get list watch", "", "services"),
    _rule("create update patch", "", "events"),
    _rule("create update patch", "events.k8s.io", "events"),
    _rule("get", "", "endpoints"),
    _rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
    _rule("get list watch", "storage.k8s.io", "csidrivers"),
    _rule("get list watch", "node.k8s.io", "runtimeclasses"),
)
