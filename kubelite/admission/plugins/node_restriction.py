"""NodeRestriction: a node changes only its own Node, lease and CSI node, and the status of pods that run on it.

With the node authorizer this is what keeps a node that was broken into from taking over others: it can't change its
taints, owners or protected labels, and gets tokens only for pods that run on it (CVE-2025-5187, CVE-2021-25740).

Source: plugin/pkg/admission/noderestriction/admission.go.
"""

from kubelite.admission import faults
from kubelite.admission.contract import Permits
from kubelite.admission.plugins import certificates
from kubelite.client.informers import Informers
from kubelite.meta import errors, pods
from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
LEASE_NAMESPACE = "kube-node-lease"
_RESOURCES = frozenset(
    {
        "pods",
        "nodes",
        "persistentvolumeclaims",
        "serviceaccounts",
        "leases.coordination.k8s.io",
        "csinodes.storage.k8s.io",
        "resourceslices.resource.k8s.io",
        certificates.REQUESTS,
    }
)
_OWN_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    }
)
_OWN_LABEL_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")
_PROTECTED_DOMAIN = "node-restriction.kubernetes.io"
_NODE_SIGNERS = ("kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet")
_LOCAL_VOLUMES = frozenset(["downwardAPI", "emptyDir", "hostPath", "image", "nfs", "iscsi", "fc", "gitRepo"])


class NodeRestriction:
    name = "NodeRestriction"

    def __init__(self, informers: Informers, permits: Permits) -> None:
        self._pods = informers.of("pods")
        self._nodes = informers.of("nodes")
        self._claims = informers.of("persistentvolumeclaims")
        self._volumes = informers.of("persistentvolumes")
        self._drivers = informers.of("csidrivers.storage.k8s.io")
        self._permits = permits

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        return operation in ("CREATE", "UPDATE", "DELETE") and kind.group_resource in _RESOURCES

    async def admit(self, attributes: Attributes) -> Obj | None:
        node = attributes.user.node_name
        if not node:
            return attributes.obj
        match attributes.target.kind.plural:
            case "pods":
                self._check_pod(attributes, node)
            case "nodes":
                _check_node(attributes, node)
            case "persistentvolumeclaims":
                _check_claim(attributes, node)
            case "serviceaccounts":
                if attributes.operation == "CREATE" and attributes.target.subresource == "token":
                    self._check_token(attributes, node)
            case "leases":
                if attributes.target.namespace != LEASE_NAMESPACE:
                    raise faults.forbidden(attributes, f'can only access leases in the "{LEASE_NAMESPACE}" system namespace')
                _check_name(attributes, node, "node lease")
            case "csinodes":
                _check_name(attributes, node, "CSINode")
            case "resourceslices":
                _check_slice(attributes, node)
            case _:
                _check_request(attributes, node)
        return attributes.obj

    def _check_pod(self, attributes: Attributes, node: str) -> None:
        target, operation = attributes.target, attributes.operation
        match target.subresource:
            case "" if operation == "CREATE":
                self._check_mirror(attributes, node)
            case "" if operation == "DELETE":
                if _node_of(self._pod(attributes, target.name)) != node:
                    raise faults.forbidden(attributes, f'node "{node}" can only delete pods with spec.nodeName set to itself')
            case "":
                why = f'unexpected operation "{operation}", node "{node}" can only create and delete mirror pods'
                raise faults.forbidden(attributes, why)
            case "status" if operation == "UPDATE":
                _check_pod_status(attributes, node)
            case "eviction" if operation == "CREATE":
                name = target.name or faults.name_of(attributes)
                if _node_of(self._pod(attributes, name)) != node:
                    raise faults.forbidden(attributes, f"node {node} can only evict pods with spec.nodeName set to itself")
            case "status" | "eviction":
                raise faults.forbidden(attributes, f'unexpected operation "{operation}"')
            case other:
                why = f"unexpected pod subresource \"{other}\", only 'status' and 'eviction' are allowed"
                raise faults.forbidden(attributes, why)

    def _pod(self, attributes: Attributes, name: str) -> Obj:
        """The pod that a request is about, as it is stored where the request says so."""
        old = attributes.old
        if old is not None and attributes.target.kind.plural == "pods" and "spec" in old:
            return old
        pod = self._pods.get(name, attributes.target.namespace)
        if pod is None:
            raise errors.NotFound.of("", "pods", name)
        return pod

    def _check_mirror(self, attributes: Attributes, node: str) -> None:
        pod = attributes.obj or {}
        metadata = pod["metadata"]
        if MIRROR_ANNOTATION not in (metadata.get("annotations") or {}):
            why = f'pod does not have "{MIRROR_ANNOTATION}" annotation, node "{node}" can only create mirror pods'
            raise faults.forbidden(attributes, why)
        if _node_of(pod) != node:
            raise faults.forbidden(attributes, f'node "{node}" can only create pods with spec.nodeName set to itself')
        owners = metadata.get("ownerReferences") or []
        if len(owners) > 1:
            why = f'node "{node}" can only create pods with a single owner reference set to itself'
            raise faults.forbidden(attributes, why)
        owner = owners[0] if owners else {}
        if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
            raise faults.forbidden(attributes, f'node "{node}" can only create pods with an owner reference set to itself')
        if not owner.get("controller"):
            why = f'node "{node}" can only create pods with a controller owner reference set to itself'
            raise faults.forbidden(attributes, why)
        if owner.get("blockOwnerDeletion"):
            raise faults.forbidden(attributes, f'node "{node}" must not set blockOwnerDeletion on an owner reference')
        found = self._nodes.get(node)
        if found is None:
            raise errors.NotFound.of("", "nodes", node)
        uid = found["metadata"].get("uid")
        if owner.get("uid") != uid:
            raise faults.forbidden(attributes, f"node {node} UID mismatch: expected {owner.get('uid')} got {uid}")
        reference = _api_reference(pod)
        if reference:
            raise faults.forbidden(attributes, f'node "{node}" can not create pods that reference {reference}')

    def _check_token(self, attributes: Attributes, node: str) -> None:
        spec = (attributes.obj or {}).get("spec") or {}
        ref = spec.get("boundObjectRef") or {}
        if (ref.get("apiVersion"), ref.get("kind")) != ("v1", "Pod") or not ref.get("name"):
            raise faults.forbidden(attributes, "node requested token not bound to a pod")
        if not ref.get("uid"):
            raise faults.forbidden(attributes, "node requested token with a pod binding without a uid")
        pod = self._pods.get(ref["name"], attributes.target.namespace)
        if pod is None:
            raise errors.NotFound.of("", "pods", ref["name"])
        if pod["metadata"].get("uid") != ref["uid"]:
            why = f"the UID in the bound object reference ({ref['uid']}) does not match the UID in record. "
            raise faults.forbidden(attributes, why + "The object might have been deleted and then recreated")
        if _node_of(pod) != node:
            raise faults.forbidden(attributes, "node requested token bound to a pod scheduled on a different node")
        self._check_audience(attributes, pod, spec.get("audiences") or [])

    def _check_audience(self, attributes: Attributes, pod: Obj, audiences: list[str]) -> None:
        if len(audiences) > 1:
            raise faults.forbidden(attributes, "node may only request 0 or 1 audiences")
        audience = audiences[0] if audiences else ""
        if audience in self._audiences(pod):
            return
        namespace, name = attributes.target.namespace, attributes.target.name
        verb = "request-serviceaccounts-token-audience"
        if self._permits(attributes.user, verb, "", audience, "", namespace, name):
            return
        raise faults.forbidden(attributes, f'audience "{audience}" not found in pod spec volume')

    def _audiences(self, pod: Obj) -> set[str]:
        """The audiences that a pod's volumes ask tokens for, those of its CSI drivers too."""
        found = set()
        drivers = set()
        namespace = pod["metadata"].get("namespace", "")
        for volume in pod["spec"].get("volumes") or ():
            for source in (volume.get("projected") or {}).get("sources") or ():
                if "serviceAccountToken" in source:
                    found.add(source["serviceAccountToken"].get("audience") or "")
            if "csi" in volume:
                drivers.add(volume["csi"].get("driver", ""))
        for name in pods.claims(pod):
            claim = self._claims.get(name, namespace) or {}
            bound = self._volumes.get((claim.get("spec") or {}).get("volumeName") or "") or {}
            drivers.add(((bound.get("spec") or {}).get("csi") or {}).get("driver", ""))
        for name in drivers - {""}:
            driver = self._drivers.get(name) or {}
            found |= {r.get("audience") or "" for r in (driver.get("spec") or {}).get("tokenRequests") or ()}
        return found


def _node_of(pod: Obj) -> str:
    return (pod.get("spec") or {}).get("nodeName") or ""


def _check_pod_status(attributes: Attributes, node: str) -> None:
    old, new = attributes.old or {}, attributes.obj or {}
    if _node_of(old) != node:
        why = f'node "{node}" can only update pod status for pods with spec.nodeName set to itself'
        raise faults.forbidden(attributes, why)
    if (old["metadata"].get("labels") or {}) != (new["metadata"].get("labels") or {}):
        raise faults.forbidden(attributes, f'node "{node}" cannot update labels through pod status')
    before, after = old.get("status") or {}, new.get("status") or {}
    if (before.get("resourceClaimStatuses") or []) != (after.get("resourceClaimStatuses") or []):
        raise faults.forbidden(attributes, f'node "{node}" cannot update resource claim statues')
    if before.get("extendedResourceClaimStatus") != after.get("extendedResourceClaimStatus"):
        raise faults.forbidden(attributes, f'node "{node}" cannot update extended resource claim status')


def _check_node(attributes: Attributes, node: str) -> None:
    obj, old = attributes.obj, attributes.old
    name = attributes.target.name or faults.name_of(attributes)
    if name != node:
        raise faults.forbidden(attributes, f'node "{node}" is not allowed to modify node "{name}"')
    if obj is None:
        return
    spec, labels = obj.get("spec") or {}, obj["metadata"].get("labels") or {}
    if attributes.operation == "CREATE":
        forbidden = _protected(set(labels))
        if forbidden:
            raise faults.forbidden(
                attributes, f'node "{node}" is not allowed to set the following labels: {", ".join(forbidden)}'
            )
    elif attributes.operation == "UPDATE" and old is not None:
        old_spec, old_labels = old.get("spec") or {}, old["metadata"].get("labels") or {}
        if spec.get("configSource") not in (None, old_spec.get("configSource")):
            raise faults.forbidden(
                attributes, f'node "{node}" is not allowed to update configSource to a new non-nil configSource'
            )
        if (spec.get("taints") or []) != (old_spec.get("taints") or []):
            raise faults.forbidden(attributes, f'node "{node}" is not allowed to modify taints')
        if (obj["metadata"].get("ownerReferences") or []) != (old["metadata"].get("ownerReferences") or []):
            raise faults.forbidden(attributes, f'node "{node}" is not allowed to modify ownerReferences')
        forbidden = _protected({k for k in labels.keys() | old_labels.keys() if labels.get(k) != old_labels.get(k)})
        if forbidden:
            raise faults.forbidden(attributes, f"is not allowed to modify labels: {', '.join(forbidden)}")


def _protected(labels: set[str]) -> list[str]:
    """The labels that a node may not give itself."""
    found = []
    for label in sorted(labels):
        domain = label.partition("/")[0] if "/" in label else ""

        def within(*suffixes: str, domain: str = domain) -> bool:
            return any(domain == suffix or domain.endswith(f".{suffix}") for suffix in suffixes)

        own = label in _OWN_LABELS or within(*_OWN_LABEL_DOMAINS)
        if within(_PROTECTED_DOMAIN) or (within("kubernetes.io", "k8s.io") and not own):
            found.append(label)
    return found


def _check_claim(attributes: Attributes, node: str) -> None:
    if attributes.target.subresource != "status":
        raise faults.forbidden(attributes, "may only update PVC status")
    if attributes.operation != "UPDATE":
        raise faults.forbidden(attributes, f'unexpected operation "{attributes.operation}"')
    if _frozen(attributes.old or {}) != _frozen(attributes.obj or {}):
        why = f'node "{node}" is not allowed to update fields other than status.quantity and status.conditions'
        raise faults.forbidden(attributes, why)


def _frozen(claim: Obj) -> Obj:
    """The part of a claim that a node may not change."""
    own = ("capacity", "conditions", "allocatedResourceStatuses", "allocatedResources")
    metadata = {k: v for k, v in claim["metadata"].items() if k not in ("resourceVersion", "managedFields")}
    return claim | {"metadata": metadata, "status": {k: v for k, v in (claim.get("status") or {}).items() if k not in own}}


def _check_name(attributes: Attributes, node: str, what: str) -> None:
    name = faults.name_of(attributes) if attributes.operation == "CREATE" else attributes.target.name
    if name != node:
        raise faults.forbidden(attributes, f"can only access {what} with the same name as the requesting node")


def _check_slice(attributes: Attributes, node: str) -> None:
    if attributes.operation == "UPDATE":
        return
    word = attributes.operation.lower()
    obj = (attributes.obj if word == "create" else attributes.old) or {}
    if (obj.get("spec") or {}).get("nodeName") != node:
        raise faults.forbidden(attributes, f"can only {word} ResourceSlice with the same NodeName as the requesting node")


def _check_request(attributes: Attributes, node: str) -> None:
    spec = (attributes.obj or {}).get("spec") or {}
    if attributes.operation != "CREATE" or spec.get("signerName") not in _NODE_SIGNERS:
        return
    common_name, _ = certificates.subject(attributes, spec.get("request", ""))
    if common_name != f"system:node:{node}":
        raise faults.forbidden(attributes, f"can only create a node CSR with CN=system:node:{node}")


def _api_reference(pod: Obj) -> str:
    """What of the API a pod refers to; an empty text where nothing."""
    if pods.service_account(pod):
        return "serviceaccounts"
    if pods.secrets(pod):
        return "secrets"
    if pods.config_maps(pod):
        return "configmaps"
    if pod["spec"].get("resourceClaims"):
        return "resourceclaims"
    for volume in pod["spec"].get("volumes") or ():
        kind = next((key for key in volume if key != "name"), "")
        if kind == "projected":
            sources = {key for source in volume["projected"].get("sources") or () for key in source}
            if sources - {"downwardAPI"}:
                return f"{sorted(sources - {'downwardAPI'})[0]} (via projected volumes)"
        elif kind in ("persistentVolumeClaim", "ephemeral"):
            return "persistentvolumeclaims"
        elif kind not in _LOCAL_VOLUMES:
            return f"{kind} volumes"
    return ""
