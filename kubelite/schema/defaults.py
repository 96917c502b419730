"""What an object gets that its author left out.

`apply` brings an object of a built-in kind into its normal form and adds what its kind defaults; an object of a custom kind gets
the defaults of its schema. Applying it twice changes nothing more.

Source: kubernetes pkg/apis/*/v1/defaults.go and conversion.go, v1.34; apiextensions-apiserver pkg/apiserver/schema/defaulting.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from kubelite.meta import copies, times
from kubelite.meta.errors import BadRequest
from kubelite.meta.types import Obj
from kubelite.schema import checking, conversion, models, podspecs
from kubelite.schema.kinds import Kind
from kubelite.schema.structure import NO_FIELDS, Structure, structure_of

RBAC_GROUP = "rbac.authorization.k8s.io"


def apply(kind: Kind, obj: Obj) -> None:
    """Completes an object that the caller owns, in place.

    Raises:
        BadRequest: a value is of the wrong type.
    """
    if kind.custom or not kind.definition:
        _metadata(kind, obj)
    else:
        normal = checking.normal(structure_of(kind), obj)
        obj.clear()
        obj.update(normal)
    complete(kind, obj)


def complete(kind: Kind, obj: Obj) -> None:
    """`apply` for an object that is in its normal form already."""
    if kind.custom or not kind.definition:
        structural(structure_of(kind), obj)
        return
    defaulter = _DEFAULTERS.get((kind.group, kind.version, kind.kind))
    if defaulter is not None:
        defaulter(obj)


def structural(structure: Structure, value: Any) -> None:
    """Adds a custom schema's defaults to a value, in place. A null where none may be is replaced by the default or removed."""
    if isinstance(value, dict):
        properties, values = structure.properties, structure.additional_properties
        for name, child in properties.items():
            if child.has_default and name not in value:
                value[name] = copies.deep_copy(child.default)
        for name in list(value):
            below = properties.get(name) or values
            if below is None:
                continue
            if value[name] is None and _is_replaced(below):
                if not below.has_default:
                    del value[name]
                    continue
                value[name] = copies.deep_copy(below.default)
            if below.raw is not None and isinstance(value[name], dict | list):
                structural(below, value[name])
    elif isinstance(value, list) and structure.items is not None:
        items = structure.items
        for index, item in enumerate(value):
            if item is None and items.has_default and _is_replaced(items):
                value[index] = copies.deep_copy(items.default)
            if isinstance(value[index], dict | list):
                structural(items, value[index])


def _is_replaced(structure: Structure) -> bool:
    """Whether a null can't stay."""
    return not structure.nullable and not structure.definition and structure is not NO_FIELDS


def _metadata(kind: Kind, obj: Obj) -> None:
    found = obj.get("metadata") or {}
    try:
        obj["metadata"] = models.normal("meta.v1.ObjectMeta", found)
    except msgspec.ValidationError:
        whole = {"metadata": checking.without_nulls(found)}
        try:
            # the walk finds the words for what is wrong, and there is a type whose only own field is metadata
            obj["metadata"] = models.normal("meta.v1.ObjectMeta", checking.prune(structure_of(kind), whole)["metadata"])
        except msgspec.ValidationError as e:
            raise BadRequest(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {e}') from e


def _set(obj: Obj, **values: Any) -> None:
    for name, value in values.items():
        obj.setdefault(name, value)


def _each(obj: Obj, name: str) -> Iterable[Obj]:
    return obj.get(name) or ()


def _namespace(obj: Obj) -> None:
    name = obj["metadata"].get("name")
    if name:
        obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name
    obj["status"].setdefault("phase", "Active")


def _node(obj: Obj) -> None:
    status = obj["status"]
    podspecs.resource_list(status.get("capacity"))
    if "allocatable" not in status and "capacity" in status:
        status["allocatable"] = dict(status["capacity"])
    podspecs.resource_list(status.get("allocatable"))


def _secret(obj: Obj) -> None:
    texts = obj.pop("stringData", None)
    if texts:
        import base64

        data = obj.setdefault("data", {})
        for key, text in texts.items():
            data[key] = base64.b64encode(text.encode()).decode()
    obj.setdefault("type", "Opaque")


def _service(obj: Obj) -> None:
    spec = obj["spec"]
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        config = spec.setdefault("sessionAffinityConfig", {})
        if "timeoutSeconds" not in (config.get("clientIP") or {}):
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": 10800}}
    kind = spec.setdefault("type", "ClusterIP")
    for port in _each(spec, "ports"):
        port.setdefault("protocol", "TCP")
        if not port.get("targetPort"):
            port["targetPort"] = port.get("port", 0)
    if kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs")):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind in ("NodePort", "LoadBalancer", "ClusterIP"):
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
        for ingress in _each(obj["status"].get("loadBalancer") or {}, "ingress"):
            if ingress.get("ip"):
                ingress.setdefault("ipMode", "VIP")


def _endpoints(obj: Obj) -> None:
    for subset in _each(obj, "subsets"):
        for port in _each(subset, "ports"):
            port.setdefault("protocol", "TCP")


def _persistent_volume(obj: Obj) -> None:
    obj["status"].setdefault("phase", "Pending")
    _set(obj["spec"], persistentVolumeReclaimPolicy="Retain", volumeMode="Filesystem")
    _volume_specification(obj["spec"])


def _volume_specification(spec: Obj) -> None:
    podspecs.resource_list(spec.get("capacity"))
    podspecs.volume_source(spec)


def _persistent_volume_claim(obj: Obj) -> None:
    obj["status"].setdefault("phase", "Pending")
    podspecs.claim_specification(obj["spec"])
    podspecs.resource_list(obj["status"].get("capacity"))
    podspecs.resource_list(obj["status"].get("allocatedResources"))


def _limit_range(obj: Obj) -> None:
    for item in _each(obj["spec"], "limits"):
        if item.get("type") == "Container":
            limits, requests = dict(item.get("default") or {}), dict(item.get("defaultRequest") or {})
            for source, target in (("max", limits), ("default", requests), ("min", requests)):
                for name, amount in (limits if source == "default" else item.get(source) or {}).items():
                    target.setdefault(name, amount)
            for field, amounts in (("default", limits), ("defaultRequest", requests)):
                if amounts:
                    item[field] = amounts
        for field in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
            podspecs.resource_list(item.get(field))


def _resource_quota(obj: Obj) -> None:
    podspecs.resource_list(obj["spec"].get("hard"))
    podspecs.resource_list(obj["status"].get("hard"))
    podspecs.resource_list(obj["status"].get("used"))


def _replication_controller(obj: Obj) -> None:
    spec = obj["spec"]
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels:
        spec.setdefault("selector", dict(labels))
        obj["metadata"].setdefault("labels", dict(labels))
    spec.setdefault("replicas", 1)
    podspecs.template(spec.get("template"))


def _deployment(obj: Obj) -> None:
    spec = obj["spec"]
    _set(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        _set(strategy.setdefault("rollingUpdate", {}), maxUnavailable="25%", maxSurge="25%")
    podspecs.template(spec.setdefault("template", {}))


def _replica_set(obj: Obj) -> None:
    obj["spec"].setdefault("replicas", 1)
    podspecs.template(obj["spec"].get("template"))


def _daemon_set(obj: Obj) -> None:
    spec = obj["spec"]
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = spec.setdefault("updateStrategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        _set(strategy.setdefault("rollingUpdate", {}), maxUnavailable=1, maxSurge=0)
    podspecs.template(spec.setdefault("template", {}))


def _stateful_set(obj: Obj) -> None:
    spec = obj["spec"]
    _set(spec, podManagementPolicy="OrderedReady", replicas=1, revisionHistoryLimit=10)
    strategy = spec.setdefault("updateStrategy", {})
    if "type" not in strategy:
        strategy["type"] = "RollingUpdate"
        strategy.setdefault("rollingUpdate", {})
    if strategy["type"] == "RollingUpdate" and "rollingUpdate" in strategy:
        strategy["rollingUpdate"].setdefault("partition", 0)
    _set(spec.setdefault("persistentVolumeClaimRetentionPolicy", {}), whenDeleted="Retain", whenScaled="Retain")
    for claim in _each(spec, "volumeClaimTemplates"):
        claim.update(apiVersion="v1", kind="PersistentVolumeClaim")  # whatever it says: these are whole claims
        _persistent_volume_claim(claim)
    podspecs.template(spec.setdefault("template", {}))


def _job(obj: Obj) -> None:
    spec = obj["spec"]
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels:
        obj["metadata"].setdefault("labels", labels)  # they stay one until the job is created
    _job_specification(spec, whole=True)


def _job_specification(spec: Obj, whole: bool) -> None:
    """A job's specification; in a cron job's template only its pods and policies are completed."""
    if whole:
        if "completions" not in spec and "parallelism" not in spec:
            spec["completions"] = 1
        spec.setdefault("parallelism", 1)
        spec.setdefault("backoffLimit", 2**31 - 1 if "backoffLimitPerIndex" in spec else 6)
        _set(spec, completionMode="NonIndexed", suspend=False, manualSelector=False)
        spec.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
    for rule in _each(spec.get("podFailurePolicy") or {}, "rules"):
        for pattern in _each(rule, "onPodConditions"):
            if not pattern.get("status"):
                pattern["status"] = "True"
    podspecs.template(spec.setdefault("template", {}))


def _cron_job(obj: Obj) -> None:
    spec = obj["spec"]
    _set(spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    _job_specification(spec.setdefault("jobTemplate", {}).setdefault("spec", {}), whole=False)


def _autoscaler(obj: Obj) -> None:
    _set(obj["spec"], minReplicas=1)
    if not conversion.has_other_metrics(obj):
        _set(obj["spec"], targetCPUUtilizationPercentage=conversion.DEFAULT_CPU_UTILIZATION)


def _autoscaler_v2(obj: Obj) -> None:
    spec = obj["spec"]
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        spec["metrics"] = [conversion.cpu_metric(conversion.DEFAULT_CPU_UTILIZATION)]
    behavior = spec.get("behavior")
    if behavior is not None:
        percent = {"type": "Percent", "value": 100, "periodSeconds": 15}
        up, down = behavior.setdefault("scaleUp", {}), behavior.setdefault("scaleDown", {})
        _set(up, stabilizationWindowSeconds=0, selectPolicy="Max")
        up.setdefault("policies", [{"type": "Pods", "value": 4, "periodSeconds": 15}, percent])
        _set(down, selectPolicy="Max")
        down.setdefault("policies", [dict(percent)])


def _binding(obj: Obj) -> None:
    reference = obj.get("roleRef") or {}
    if not reference.get("apiGroup"):
        obj["roleRef"] = {"apiGroup": RBAC_GROUP, **{key: value for key, value in reference.items() if key != "apiGroup"}}
    for subject in _each(obj, "subjects"):
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", RBAC_GROUP)


def _network_policy(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    for direction in ("ingress", "egress"):
        for rule in _each(spec, direction):
            for port in _each(rule, "ports"):
                port.setdefault("protocol", "TCP")


def _ingress_class(obj: Obj) -> None:
    parameters = obj["spec"].get("parameters")
    if parameters is not None:
        parameters.setdefault("scope", "Cluster")


def _endpoint_slice(obj: Obj) -> None:
    for port in _each(obj, "ports"):
        _set(port, name="", protocol="TCP")


def _storage_class(obj: Obj) -> None:
    _set(obj, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def _csi_driver(obj: Obj) -> None:
    spec = obj["spec"]
    _set(spec, attachRequired=True, podInfoOnMount=False, storageCapacity=False, requiresRepublish=False, seLinuxMount=False)
    spec.setdefault("fsGroupPolicy", "ReadWriteOnceWithFSType")
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


def _volume_attachment(obj: Obj) -> None:
    inline = (obj["spec"].get("source") or {}).get("inlineVolumeSpec")
    if inline is not None:
        _volume_specification(inline)


def _priority_class(obj: Obj) -> None:
    obj.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _webhooks(obj: Obj) -> None:
    mutating = obj.get("kind") == "MutatingWebhookConfiguration"
    for hook in _each(obj, "webhooks"):
        _set(hook, failurePolicy="Fail", matchPolicy="Equivalent", timeoutSeconds=10)
        _set(hook, namespaceSelector={}, objectSelector={})
        if mutating:
            hook.setdefault("reinvocationPolicy", "Never")
        _service_port(hook.get("clientConfig"))
        for rule in _each(hook, "rules"):
            rule.setdefault("scope", "*")


def _service_port(config: Obj | None) -> None:
    service = (config or {}).get("service")
    if service is not None:
        service.setdefault("port", 443)


def _match_resources(matching: Obj | None) -> None:
    if matching is None:
        return
    _set(matching, matchPolicy="Equivalent", namespaceSelector={}, objectSelector={})
    for field in ("resourceRules", "excludeResourceRules"):
        for rule in _each(matching, field):
            rule.setdefault("scope", "*")


def _admission_policy(obj: Obj) -> None:
    obj["spec"].setdefault("failurePolicy", "Fail")
    _match_resources(obj["spec"].get("matchConstraints"))


def _admission_policy_binding(obj: Obj) -> None:
    _match_resources(obj["spec"].get("matchResources"))


def _custom_resource_definition(obj: Obj) -> None:
    spec, status = obj["spec"], obj["status"]
    names = spec.setdefault("names", {})
    if names.get("kind"):
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", f"{names['kind']}List")
    conversion = spec.setdefault("conversion", {"strategy": "None"})
    _service_port((conversion.get("webhook") or {}).get("clientConfig"))
    if not status.get("storedVersions"):
        stored = [version["name"] for version in _each(spec, "versions") if version.get("storage") and version.get("name")]
        if stored:
            status["storedVersions"] = stored[:1]


def _api_service(obj: Obj) -> None:
    _service_port(obj["spec"])


def _flow_schema(obj: Obj) -> None:
    if not obj["spec"].get("matchingPrecedence"):
        obj["spec"]["matchingPrecedence"] = 1000


def _priority_level(obj: Obj) -> None:
    exempt, limited = obj["spec"].get("exempt"), obj["spec"].get("limited")
    if exempt is not None:
        _set(exempt, nominalConcurrencyShares=0, lendablePercent=0)
    if limited is not None:
        _set(limited, nominalConcurrencyShares=30, lendablePercent=0)
        queuing = (limited.get("limitResponse") or {}).get("queuing")
        if queuing is not None:
            for name, value in (("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)):
                queuing[name] = queuing.get(name) or value


def _device_requests(spec: Obj) -> None:
    for request in _each(spec.get("devices") or {}, "requests"):
        for wanted in (request.get("exactly"), *_each(request, "firstAvailable")):
            if wanted is None:
                continue
            if wanted.setdefault("allocationMode", "ExactCount") == "ExactCount":
                wanted.setdefault("count", 1)
            for toleration in _each(wanted, "tolerations"):
                toleration.setdefault("operator", "Equal")


def _resource_claim(obj: Obj) -> None:
    _device_requests(obj["spec"])
    devices = (obj["status"].get("allocation") or {}).get("devices") or {}
    for result in _each(devices, "results"):
        for toleration in _each(result, "tolerations"):
            toleration.setdefault("operator", "Equal")


def _resource_claim_template(obj: Obj) -> None:
    _device_requests(obj["spec"].get("spec") or {})


def _resource_slice(obj: Obj) -> None:
    for device in _each(obj["spec"], "devices"):
        for taint in _each(device, "taints"):
            if not taint.get("timeAdded"):
                taint["timeAdded"] = times.now()


def _token_request(obj: Obj) -> None:
    obj.setdefault("spec", {}).setdefault("expirationSeconds", 3600)


def _pod_template(obj: Obj) -> None:
    podspecs.template(obj.get("template"))


_DEFAULTERS: dict[tuple[str, str, str], Callable[[Obj], None]] = {
    ("", "v1", "Pod"): podspecs.pod,
    ("", "v1", "PodTemplate"): _pod_template,
    ("", "v1", "Namespace"): _namespace,
    ("", "v1", "Node"): _node,
    ("", "v1", "Secret"): _secret,
    ("", "v1", "Service"): _service,
    ("", "v1", "Endpoints"): _endpoints,
    ("", "v1", "PersistentVolume"): _persistent_volume,
    ("", "v1", "PersistentVolumeClaim"): _persistent_volume_claim,
    ("", "v1", "LimitRange"): _limit_range,
    ("", "v1", "ResourceQuota"): _resource_quota,
    ("", "v1", "ReplicationController"): _replication_controller,
    ("apps", "v1", "Deployment"): _deployment,
    ("apps", "v1", "ReplicaSet"): _replica_set,
    ("apps", "v1", "DaemonSet"): _daemon_set,
    ("apps", "v1", "StatefulSet"): _stateful_set,
    ("batch", "v1", "Job"): _job,
    ("batch", "v1", "CronJob"): _cron_job,
    ("autoscaling", "v1", "HorizontalPodAutoscaler"): _autoscaler,
    ("autoscaling", "v2", "HorizontalPodAutoscaler"): _autoscaler_v2,
    (RBAC_GROUP, "v1", "ClusterRoleBinding"): _binding,
    (RBAC_GROUP, "v1", "RoleBinding"): _binding,
    ("networking.k8s.io", "v1", "NetworkPolicy"): _network_policy,
    ("networking.k8s.io", "v1", "IngressClass"): _ingress_class,
    ("discovery.k8s.io", "v1", "EndpointSlice"): _endpoint_slice,
    ("storage.k8s.io", "v1", "StorageClass"): _storage_class,
    ("storage.k8s.io", "v1", "CSIDriver"): _csi_driver,
    ("storage.k8s.io", "v1", "VolumeAttachment"): _volume_attachment,
    ("scheduling.k8s.io", "v1", "PriorityClass"): _priority_class,
    ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration"): _webhooks,
    ("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration"): _webhooks,
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy"): _admission_policy,
    ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding"): _admission_policy_binding,
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"): _custom_resource_definition,
    ("apiregistration.k8s.io", "v1", "APIService"): _api_service,
    ("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema"): _flow_schema,
    ("flowcontrol.apiserver.k8s.io", "v1", "PriorityLevelConfiguration"): _priority_level,
    ("resource.k8s.io", "v1", "ResourceClaim"): _resource_claim,
    ("resource.k8s.io", "v1", "ResourceClaimTemplate"): _resource_claim_template,
    ("resource.k8s.io", "v1", "ResourceSlice"): _resource_slice,
    ("authentication.k8s.io", "v1", "TokenRequest"): _token_request,
}
