"""Every kind that Kubernetes 1.34 serves by default, as rows.

The table below is text with one line a resource, so that it can be read and compared; `kinds` makes the rows of it. What
objects look like inside is not here but in the published definitions (`structure`).

Source: discovery of kube-apiserver v1.34.3; selectable fields: its pkg/apis/*/v1/conversion.go.
"""

from functools import lru_cache

from kubelite.schema.kinds import ALL_VERBS, Kind, Kinds, Subresource

_TABLE = """
[v1]
bindings Binding namespaced verbs=create
componentstatuses ComponentStatus cluster short=cs verbs=get,list
configmaps ConfigMap namespaced short=cm
endpoints Endpoints namespaced short=ep
events Event namespaced short=ev
  fields=involvedObject.kind,involvedObject.namespace,involvedObject.name,involvedObject.uid,involvedObject.apiVersion
  fields=involvedObject.resourceVersion,involvedObject.fieldPath,reason,reportingComponent,source,type
limitranges LimitRange namespaced short=limits
namespaces Namespace cluster short=ns verbs=create,delete,get,list,patch,update,watch sub=finalize,status fields=status.phase
nodes Node cluster short=no sub=proxy,status fields=spec.unschedulable
persistentvolumeclaims PersistentVolumeClaim namespaced short=pvc sub=status
persistentvolumes PersistentVolume cluster short=pv sub=status
pods Pod namespaced short=po categories=all
  sub=attach,binding,ephemeralcontainers,eviction,exec,log,portforward,proxy,resize,status
  fields=spec.nodeName,spec.host,spec.restartPolicy,spec.schedulerName,spec.serviceAccountName,spec.hostNetwork
  fields=status.phase,status.podIP,status.podIPs,status.nominatedNodeName
podtemplates PodTemplate namespaced
replicationcontrollers ReplicationController namespaced short=rc categories=all sub=scale,status fields=status.replicas
resourcequotas ResourceQuota namespaced short=quota sub=status
secrets Secret namespaced fields=type
serviceaccounts ServiceAccount namespaced short=sa sub=token
services Service namespaced short=svc categories=all sub=proxy,status fields=spec.clusterIP,spec.type
[apiregistration.k8s.io/v1]
apiservices APIService cluster categories=api-extensions sub=status
[apps/v1]
controllerrevisions ControllerRevision namespaced
daemonsets DaemonSet namespaced short=ds categories=all sub=status
deployments Deployment namespaced short=deploy categories=all sub=scale,status
replicasets ReplicaSet namespaced short=rs categories=all sub=scale,status
statefulsets StatefulSet namespaced short=sts categories=all sub=scale,status
[events.k8s.io/v1]
events Event namespaced short=ev
  fields=reason,regarding.kind,regarding.namespace,regarding.name,regarding.uid,regarding.apiVersion
  fields=regarding.resourceVersion,regarding.fieldPath,reportingController,type
[authentication.k8s.io/v1]
selfsubjectreviews SelfSubjectReview cluster verbs=create
tokenreviews TokenReview cluster verbs=create
[authorization.k8s.io/v1]
localsubjectaccessreviews LocalSubjectAccessReview namespaced verbs=create
selfsubjectaccessreviews SelfSubjectAccessReview cluster verbs=create
selfsubjectrulesreviews SelfSubjectRulesReview cluster verbs=create
subjectaccessreviews SubjectAccessReview cluster verbs=create
[autoscaling/v2]
horizontalpodautoscalers HorizontalPodAutoscaler namespaced short=hpa categories=all sub=status
[autoscaling/v1]
horizontalpodautoscalers HorizontalPodAutoscaler namespaced short=hpa categories=all sub=status
[batch/v1]
cronjobs CronJob namespaced short=cj categories=all sub=status
jobs Job namespaced categories=all sub=status fields=status.successful
[certificates.k8s.io/v1]
certificatesigningrequests CertificateSigningRequest cluster short=csr sub=approval,status fields=spec.signerName
[networking.k8s.io/v1]
ingressclasses IngressClass cluster
ingresses Ingress namespaced short=ing sub=status
ipaddresses IPAddress cluster short=ip
networkpolicies NetworkPolicy namespaced short=netpol
servicecidrs ServiceCIDR cluster sub=status
[policy/v1]
poddisruptionbudgets PodDisruptionBudget namespaced short=pdb sub=status
[rbac.authorization.k8s.io/v1]
clusterrolebindings ClusterRoleBinding cluster
clusterroles ClusterRole cluster
rolebindings RoleBinding namespaced
roles Role namespaced
[storage.k8s.io/v1]
csidrivers CSIDriver cluster
csinodes CSINode cluster
csistoragecapacities CSIStorageCapacity namespaced
storageclasses StorageClass cluster short=sc
volumeattachments VolumeAttachment cluster sub=status
volumeattributesclasses VolumeAttributesClass cluster short=vac
[admissionregistration.k8s.io/v1]
mutatingwebhookconfigurations MutatingWebhookConfiguration cluster categories=api-extensions
validatingadmissionpolicies ValidatingAdmissionPolicy cluster categories=api-extensions sub=status
validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding cluster categories=api-extensions
validatingwebhookconfigurations ValidatingWebhookConfiguration cluster categories=api-extensions
[apiextensions.k8s.io/v1]
customresourcedefinitions CustomResourceDefinition cluster short=crd,crds categories=api-extensions sub=status
[scheduling.k8s.io/v1]
priorityclasses PriorityClass cluster short=pc
[coordination.k8s.io/v1]
leases Lease namespaced
[node.k8s.io/v1]
runtimeclasses RuntimeClass cluster
[discovery.k8s.io/v1]
endpointslices EndpointSlice namespaced
[resource.k8s.io/v1]
deviceclasses DeviceClass cluster
resourceclaims ResourceClaim namespaced sub=status
resourceclaimtemplates ResourceClaimTemplate namespaced
resourceslices ResourceSlice cluster fields=spec.nodeName,spec.driver
[flowcontrol.apiserver.k8s.io/v1]
flowschemas FlowSchema cluster sub=status
prioritylevelconfigurations PriorityLevelConfiguration cluster sub=status
"""

_PROXY_VERBS = ("create", "delete", "get", "patch", "update")

#: Subresources that are not simply a part (status, approval) of their kind: kind, group, version, verbs.
_SUBRESOURCES: dict[tuple[str, str], Subresource] = {
    ("namespaces", "finalize"): Subresource("finalize", "Namespace", verbs=("update",)),
    ("nodes", "proxy"): Subresource("proxy", "NodeProxyOptions", verbs=_PROXY_VERBS),
    ("pods", "attach"): Subresource("attach", "PodAttachOptions", verbs=("create", "get")),
    ("pods", "binding"): Subresource("binding", "Binding", verbs=("create",)),
    ("pods", "eviction"): Subresource("eviction", "Eviction", "policy", "v1", ("create",)),
    ("pods", "exec"): Subresource("exec", "PodExecOptions", verbs=("create", "get")),
    ("pods", "log"): Subresource("log", "Pod", verbs=("get",)),
    ("pods", "portforward"): Subresource("portforward", "PodPortForwardOptions", verbs=("create", "get")),
    ("pods", "proxy"): Subresource("proxy", "PodProxyOptions", verbs=_PROXY_VERBS),
    ("serviceaccounts", "token"): Subresource("token", "TokenRequest", "authentication.k8s.io", "v1", ("create",)),
    ("services", "proxy"): Subresource("proxy", "ServiceProxyOptions", verbs=_PROXY_VERBS),
}
_SCALE = ("Scale", "autoscaling", "v1")

#: Groups whose types are published under another package than io.k8s.api.
_PACKAGES = {
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
    "apiregistration.k8s.io": "io.k8s.kube-aggregator.pkg.apis.apiregistration",
    "meta.k8s.io": "io.k8s.apimachinery.pkg.apis.meta",
}

#: Resources of one version that are stored in another one's form.
_STORED_AS = {
    ("events.k8s.io", "v1", "events"): ("", "v1"),
    ("autoscaling", "v1", "horizontalpodautoscalers"): ("autoscaling", "v2"),
}

#: Kinds that only appear as bodies: of subresources, and of requests that delete.
_BODIES = (
    ("autoscaling", "v1", "Scale"),
    ("policy", "v1", "Eviction"),
    ("authentication.k8s.io", "v1", "TokenRequest"),
    ("meta.k8s.io", "v1", "DeleteOptions"),
    ("meta.k8s.io", "v1", "Status"),
)


def kinds() -> Kinds:
    """A new table that holds the built-in kinds."""
    table = Kinds()
    for kind in _rows():
        table.add(kind)
    return table


def body(group: str, version: str, kind: str) -> Kind:
    """The row that stands for a body which is no resource of its own: Scale, Eviction, TokenRequest, DeleteOptions, Status.

    Raises:
        KeyError: there is no such body.
    """
    if kind in ("DeleteOptions", "Status"):
        group, version = "meta.k8s.io", "v1"  # these two go with every group's version
    return _bodies()[group, version, kind]


def definition(group: str, version: str, kind: str) -> str:
    """The name under which a built-in kind is published."""
    package = _PACKAGES.get(group) or f"io.k8s.api.{group.partition('.')[0] or 'core'}"
    return f"{package}.{version}.{kind}"


@lru_cache(maxsize=1)
def _rows() -> tuple[Kind, ...]:
    rows, group, version = [], "", ""
    for line in _TABLE.replace("\n  ", " ").split("\n"):
        if line.startswith("["):
            group, _, version = line.strip("[]").rpartition("/")
        elif line:
            rows.append(_row(group, version, line))
    return tuple(rows)


def _row(group: str, version: str, line: str) -> Kind:
    plural, kind, scope, *options = line.split()
    given: dict[str, tuple[str, ...]] = {}
    for name, _, values in (option.partition("=") for option in options):
        given[name] = given.get(name, ()) + tuple(values.split(","))
    return Kind(
        group,
        version,
        kind,
        plural,
        singular=kind.lower(),
        namespaced=scope == "namespaced",
        verbs=given.get("verbs", ALL_VERBS),
        short_names=given.get("short", ()),
        categories=given.get("categories", ()),
        subresources={name: _subresource(plural, kind, name) for name in given.get("sub", ())},
        selectable_fields=given.get("fields", ()),
        definition=definition(group, version, kind),
        stored_as=_STORED_AS.get((group, version, plural)),
        list_kind=f"{kind}List",
    )


def _subresource(plural: str, kind: str, name: str) -> Subresource:
    if name == "scale":
        return Subresource(name, *_SCALE)
    return _SUBRESOURCES.get((plural, name)) or Subresource(name, kind)


@lru_cache(maxsize=1)
def _bodies() -> dict[tuple[str, str, str], Kind]:
    return {
        (group, version, kind): Kind(
            group, version, kind, "", "", namespaced=True, verbs=(), definition=definition(group, version, kind)
        )
        for group, version, kind in _BODIES
    }
