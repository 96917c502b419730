"""What tables show of built-in kinds: for each resource its columns and a function to an object's cells.

One small function a kind: the module is long because the kinds are many.

Source: kubernetes pkg/printers/internalversion/printers.go, v1.34 (names, types, order and form of the cells).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kubelite.meta import selectors, times
from kubelite.meta.types import Obj
from kubelite.schema.cells import NAME, NONE, UNKNOWN, Cells, Column, age

UNSET = "<unset>"
_SHOWN = 3


def columns(text: str) -> tuple[Column, ...]:
    """Columns from a compact text, split at bars: `Ready|Age|Replicas:integer|Node*`, the starred ones only shown wide."""
    out = [NAME]
    for item in text.split("|"):
        name, _, kind = item.rstrip("*").partition(":")
        out.append(Column(name, kind or "string", "", 1 if item.endswith("*") else 0))
    return tuple(out)


def _meta(obj: Obj) -> Obj:
    return obj.get("metadata") or {}


def _spec(obj: Obj) -> Obj:
    return obj.get("spec") or {}


def _status(obj: Obj) -> Obj:
    return obj.get("status") or {}


def _name(obj: Obj) -> str:
    return str(_meta(obj).get("name", ""))


def _age(obj: Obj, now: float) -> str:
    return age(_meta(obj).get("creationTimestamp"), now)


def _more(items: Iterable[str], absent: str = NONE) -> str:
    """The first few of a list, and how many more there are."""
    listed = list(items)
    if not listed:
        return absent
    text = ",".join(listed[:_SHOWN])
    return f"{text} + {len(listed) - _SHOWN} more..." if len(listed) > _SHOWN else text


def _labels(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted((labels or {}).items())) or NONE


def _selector(selector: Obj | None) -> str:
    return str(selectors.from_object(selector)) or NONE if selector else NONE


def _containers(template: Obj | None) -> list[str]:
    listed = _spec(template or {}).get("containers") or ()
    return [",".join(c.get("name", "") for c in listed), ",".join(c.get("image", "") for c in listed)]


def _condition(obj: Obj, kind: str) -> str:
    return next((c.get("status", "") for c in _status(obj).get("conditions") or () if c.get("type") == kind), "")


def pod(obj: Obj, now: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    ready, reason, restarts, last = _pod_state(obj)
    total = len(spec.get("containers") or ()) + sum(c.get("restartPolicy") == "Always" for c in spec.get("initContainers") or ())
    text = f"{restarts} ({age(last, now)} ago)" if restarts and last else str(restarts)
    addresses = status.get("podIPs") or ()
    gates = spec.get("readinessGates") or ()
    passed = sum(_condition(obj, gate.get("conditionType", "")) == "True" for gate in gates)
    return [
        _name(obj),
        f"{ready}/{total}",
        reason,
        text,
        _age(obj, now),
        addresses[0].get("ip", "") if addresses else NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        f"{passed}/{len(gates)}" if gates else NONE,
    ]


def _pod_state(obj: Obj) -> tuple[int, str, int, str]:
    """Ready containers, the reason shown as status, restarts, and when the last one ended."""
    spec, status = _spec(obj), _status(obj)
    reason = status.get("reason") or status.get("phase", "")
    if any(c.get("type") == "PodScheduled" and c.get("reason") == "SchedulingGated" for c in status.get("conditions") or ()):
        reason = "SchedulingGated"
    init = spec.get("initContainers") or ()
    sidecars = {c["name"] for c in init if c.get("restartPolicy") == "Always"}
    ready = restarts = sidecar_restarts = 0
    last = sidecar_last = ""
    initializing = False
    for i, container in enumerate(status.get("initContainerStatuses") or ()):
        ended = ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
        restarts += container.get("restartCount", 0)
        last = max(last, ended)
        sidecar = container.get("name") in sidecars
        if sidecar:
            sidecar_restarts += container.get("restartCount", 0)
            sidecar_last = max(sidecar_last, ended)
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None and terminated.get("exitCode", 0) == 0:
            continue
        if sidecar and container.get("started"):
            ready += bool(container.get("ready"))
            continue
        if terminated is not None:
            reason = f"Init:{_ended(terminated)}"
        elif waiting.get("reason") not in (None, "", "PodInitializing"):
            reason = f"Init:{waiting['reason']}"
        else:
            reason = f"Init:{i}/{len(init)}"
        initializing = True
        break
    if not initializing or _condition(obj, "Initialized") == "True":
        restarts, last = sidecar_restarts, sidecar_last
        running = False
        for container in reversed(status.get("containerStatuses") or ()):
            restarts += container.get("restartCount", 0)
            last = max(last, ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or "")
            state = container.get("state") or {}
            if (state.get("waiting") or {}).get("reason"):
                reason = state["waiting"]["reason"]
            elif state.get("terminated") is not None:
                reason = _ended(state["terminated"])
            elif container.get("ready") and "running" in state:
                running = True
                ready += 1
        if reason == "Completed" and running:
            reason = "Running" if _condition(obj, "Ready") == "True" else "NotReady"
    if _meta(obj).get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            reason = "Terminating"
    return ready, reason, restarts, last


def _ended(terminated: Obj) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def node(obj: Obj, now: float) -> list[Any]:
    status, labels = _status(obj), _meta(obj).get("labels") or {}
    ready = _condition(obj, "Ready")
    states = ["Ready" if ready == "True" else "NotReady" if ready else "Unknown"]
    if _spec(obj).get("unschedulable"):
        states.append("SchedulingDisabled")
    prefix = "node-role.kubernetes.io/"
    roles = {k.removeprefix(prefix) for k in labels if k.startswith(prefix) and k != prefix}
    if labels.get("kubernetes.io/role"):
        roles.add(labels["kubernetes.io/role"])
    info = status.get("nodeInfo") or {}
    addresses = {a.get("type"): a.get("address", "") for a in reversed(status.get("addresses") or ())}
    return [
        _name(obj),
        ",".join(states),
        ",".join(sorted(roles)) or NONE,
        _age(obj, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", NONE),
        addresses.get("ExternalIP", NONE),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def service(obj: Obj, now: float) -> list[Any]:
    spec = _spec(obj)
    addresses = spec.get("clusterIPs") or ()
    ports = []
    for port in spec.get("ports") or ():
        number = f"{port.get('port')}:{port['nodePort']}" if port.get("nodePort") else str(port.get("port"))
        ports.append(f"{number}/{port.get('protocol', 'TCP')}")
    return [
        _name(obj),
        spec.get("type", ""),
        addresses[0] if addresses else NONE,
        _external_address(obj),
        ",".join(ports) or NONE,
        _age(obj, now),
        _labels(spec.get("selector")),
    ]


def _external_address(obj: Obj) -> str:
    spec = _spec(obj)
    external = list(spec.get("externalIPs") or ())
    match spec.get("type"):
        case "ExternalName":
            return str(spec.get("externalName", ""))
        case "LoadBalancer":
            ingress = (_status(obj).get("loadBalancer") or {}).get("ingress") or ()
            given = sorted({i.get("ip") or i.get("hostname", "") for i in ingress} - {""})
            return ",".join([*given, *external]) or "<pending>"
        case "ClusterIP" | "NodePort":
            return ",".join(external) or NONE
    return UNKNOWN


def endpoints(obj: Obj, now: float) -> list[Any]:
    listed = []
    for subset in obj.get("subsets") or ():
        no_port: Obj = {}
        for port in subset.get("ports") or (no_port,):
            for address in subset.get("addresses") or ():
                ip = address.get("ip", "")
                host = f"[{ip}]" if ":" in ip and port else ip
                listed.append(f"{host}:{port['port']}" if port.get("port") else ip)
    return [_name(obj), _more(listed), _age(obj, now)]


def endpoint_slice(obj: Obj, now: float) -> list[Any]:
    ports = _more((str(p.get("port") or p.get("name") or "*") for p in obj.get("ports") or ()), absent=UNSET)
    addresses = _more((a for e in obj.get("endpoints") or () for a in e.get("addresses") or ()), absent=UNSET)
    return [_name(obj), obj.get("addressType", ""), ports, addresses, _age(obj, now)]


def event(obj: Obj, now: float) -> list[Any]:
    moved = "involvedObject" not in obj  # the fields as events.k8s.io names them
    involved = (obj.get("regarding") if moved else obj.get("involvedObject")) or {}
    source = (obj.get("deprecatedSource") if moved else obj.get("source")) or {}
    first = (obj.get("deprecatedFirstTimestamp") if moved else obj.get("firstTimestamp")) or obj.get("eventTime")
    last = (obj.get("deprecatedLastTimestamp") if moved else obj.get("lastTimestamp")) or first
    count = (obj.get("deprecatedCount") if moved else obj.get("count")) or 1
    series = obj.get("series")
    if series:
        last, count = series.get("lastObservedTime"), series.get("count", 1)
    kind = involved.get("kind", "").lower()
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    host = source.get("host") or obj.get("reportingInstance") or ""
    message = (obj.get("note") if moved else obj.get("message")) or ""
    return [
        age(last, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{kind}/{involved['name']}" if involved.get("name") else kind,
        involved.get("fieldPath", ""),
        f"{component}, {host}" if host else component,
        message.strip(),
        age(first, now),
        count,
        _name(obj),
    ]


def component_status(obj: Obj, now: float) -> list[Any]:
    healthy: Obj = next((c for c in obj.get("conditions") or () if c.get("type") == "Healthy"), {})
    state = {"True": "Healthy", "False": "Unhealthy"}.get(healthy.get("status", ""), "Unknown")
    return [_name(obj), state, healthy.get("message", ""), healthy.get("error", "")]


def namespace(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), _status(obj).get("phase", ""), _age(obj, now)]


def config_map(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), _age(obj, now)]


def secret(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), obj.get("type", ""), len(obj.get("data") or ()), _age(obj, now)]


def service_account(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), len(obj.get("secrets") or ()), _age(obj, now)]


def replica_set(obj: Obj, now: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    selector = spec.get("selector")
    shown = _selector(selector) if selector and selector.keys() & {"matchLabels", "matchExpressions"} else _labels(selector)
    counts = [spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [_name(obj), *counts, _age(obj, now), *_containers(spec.get("template")), shown]


def deployment(obj: Obj, now: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    return [
        _name(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        _age(obj, now),
        *_containers(spec.get("template")),
        _selector(spec.get("selector")),
    ]


def stateful_set(obj: Obj, now: float) -> list[Any]:
    spec = _spec(obj)
    ready = f"{_status(obj).get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    return [_name(obj), ready, _age(obj, now), *_containers(spec.get("template"))]


def daemon_set(obj: Obj, now: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    names = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable")
    return [
        _name(obj),
        *(status.get(name, 0) for name in names),
        _labels(_spec(spec.get("template") or {}).get("nodeSelector")),
        _age(obj, now),
        *_containers(spec.get("template")),
        _selector(spec.get("selector")),
    ]


def controller_revision(obj: Obj, now: float) -> list[Any]:
    owner = next((o for o in _meta(obj).get("ownerReferences") or () if o.get("controller")), None)
    shown = NONE
    if owner is not None:
        group = owner.get("apiVersion", "").rpartition("/")[0]
        kind = owner.get("kind", "").lower()
        shown = f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"
    return [_name(obj), shown, obj.get("revision", 0), _age(obj, now)]


def job(obj: Obj, now: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    done = status.get("succeeded", 0)
    if spec.get("completions") is not None:
        completions = f"{done}/{spec['completions']}"
    else:
        parallelism = spec.get("parallelism", 0)
        completions = f"{done}/1 of {parallelism}" if parallelism > 1 else f"{done}/1"
    duration = ""
    if status.get("startTime"):
        end = times.parse_seconds(status["completionTime"]) if status.get("completionTime") else now
        duration = times.format_duration(end - times.parse_seconds(status["startTime"]))
    state = _job_state(obj)
    return [
        _name(obj),
        state,
        completions,
        duration,
        _age(obj, now),
        *_containers(spec.get("template")),
        _selector(spec.get("selector")),
    ]


def _job_state(obj: Obj) -> str:
    for kind in ("Complete", "Failed"):
        if _condition(obj, kind) == "True":
            return kind
    if _meta(obj).get("deletionTimestamp"):
        return "Terminating"
    for kind in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if _condition(obj, kind) == "True":
            return kind
    return "Running"


def cron_job(obj: Obj, now: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    last = status.get("lastScheduleTime")
    inner = _spec(spec.get("jobTemplate") or {})
    return [
        _name(obj),
        spec.get("schedule", ""),
        spec.get("timeZone") or NONE,
        str(bool(spec.get("suspend"))),
        len(status.get("active") or ()),
        age(last, now) if last else NONE,
        _age(obj, now),
        *_containers(inner.get("template")),
        _selector(inner.get("selector")),
    ]


def ingress(obj: Obj, now: float) -> list[Any]:
    spec = _spec(obj)
    rules = spec.get("rules") or ()
    hosts = [rule["host"] for rule in rules[:_SHOWN] if rule.get("host")]
    text = ",".join(hosts) or "*"
    if hosts and len(rules) > _SHOWN:
        text += f" + {len(rules) - _SHOWN} more..."
    given = (_status(obj).get("loadBalancer") or {}).get("ingress") or ()
    addresses = ",".join(sorted({i.get("ip") or i.get("hostname", "") for i in given} - {""}))
    ports = "80, 443" if spec.get("tls") else "80"
    return [_name(obj), spec.get("ingressClassName") or NONE, text, addresses, ports, _age(obj, now)]


def ingress_class(obj: Obj, now: float) -> list[Any]:
    parameters = _spec(obj).get("parameters")
    shown = NONE
    if parameters:
        group = f".{parameters['apiGroup']}" if parameters.get("apiGroup") else ""
        shown = f"{parameters.get('kind', '')}{group}/{parameters.get('name', '')}"
    return [_name(obj), _spec(obj).get("controller", ""), shown, _age(obj, now)]


def network_policy(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), _selector(_spec(obj).get("podSelector")), _age(obj, now)]


def ip_address(obj: Obj, now: float) -> list[Any]:
    ref = _spec(obj).get("parentRef")
    shown = NONE
    if ref:
        resource = f"{ref.get('resource', '')}.{ref['group']}" if ref.get("group") else ref.get("resource", "")
        shown = "/".join(part for part in (resource.lower(), ref.get("namespace"), ref.get("name", "")) if part)
    return [_name(obj), shown]


def service_cidr(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), ",".join(_spec(obj).get("cidrs") or ()), _age(obj, now)]


_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _modes(modes: Iterable[str] | None) -> str:
    given = set(modes or ())
    return ",".join(short for mode, short in _MODES.items() if mode in given)


def persistent_volume(obj: Obj, now: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    claim = spec.get("claimRef")
    return [
        _name(obj),
        (spec.get("capacity") or {}).get("storage", "0"),
        _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        "Terminating" if _meta(obj).get("deletionTimestamp") else status.get("phase", ""),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        spec.get("storageClassName", ""),
        spec.get("volumeAttributesClassName") or UNSET,
        status.get("reason", ""),
        _age(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


def persistent_volume_claim(obj: Obj, now: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    bound = bool(spec.get("volumeName"))
    return [
        _name(obj),
        "Terminating" if _meta(obj).get("deletionTimestamp") else status.get("phase", ""),
        spec.get("volumeName", ""),
        (status.get("capacity") or {}).get("storage", "0") if bound else "",
        _modes(status.get("accessModes")) if bound else "",
        spec.get("storageClassName", ""),
        spec.get("volumeAttributesClassName") or UNSET,
        _age(obj, now),
        spec.get("volumeMode") or UNSET,
    ]


def storage_class(obj: Obj, now: float) -> list[Any]:
    is_default = (_meta(obj).get("annotations") or {}).get("storageclass.kubernetes.io/is-default-class") == "true"
    return [
        f"{_name(obj)} (default)" if is_default else _name(obj),
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy", "Delete"),
        obj.get("volumeBindingMode", "Immediate"),
        bool(obj.get("allowVolumeExpansion")),
        _age(obj, now),
    ]


def volume_attachment(obj: Obj, now: float) -> list[Any]:
    spec = _spec(obj)
    volume = (spec.get("source") or {}).get("persistentVolumeName", "")
    attached = bool(_status(obj).get("attached"))
    return [_name(obj), spec.get("attacher", ""), volume, spec.get("nodeName", ""), attached, _age(obj, now)]


def csi_driver(obj: Obj, now: float) -> list[Any]:
    spec = _spec(obj)
    requests = spec.get("tokenRequests")
    return [
        _name(obj),
        spec.get("attachRequired", True),
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        UNSET if requests is None else ",".join(r.get("audience", "") for r in requests),
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or NONE,
        _age(obj, now),
    ]


def csi_node(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), len(_spec(obj).get("drivers") or ()), _age(obj, now)]


def volume_attributes_class(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), obj.get("driverName", ""), _age(obj, now)]


def resource_quota(obj: Obj, now: float) -> list[Any]:
    status = _status(obj)
    used = status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for resource, hard in sorted((status.get("hard") or {}).items()):
        column = limits if resource.startswith("limits.") else requests
        column.append(f"{resource}: {used.get(resource, '0')}/{hard}")
    return [_name(obj), ", ".join(requests), ", ".join(limits), _age(obj, now)]


def pod_template(obj: Obj, now: float) -> list[Any]:
    template = obj.get("template") or {}
    return [_name(obj), *_containers(template), _labels(_meta(template).get("labels"))]


def pod_disruption_budget(obj: Obj, now: float) -> list[Any]:
    spec = _spec(obj)
    bounds = [str(spec.get(name, "N/A")) for name in ("minAvailable", "maxUnavailable")]
    return [_name(obj), *bounds, _status(obj).get("disruptionsAllowed", 0), _age(obj, now)]


def scale(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), _spec(obj).get("replicas", 0), _status(obj).get("replicas", 0), _age(obj, now)]


def horizontal_pod_autoscaler(obj: Obj, now: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    ref = spec.get("scaleTargetRef") or {}
    return [
        _name(obj),
        f"{ref.get('kind', '')}/{ref.get('name', '')}",
        _metrics(spec.get("metrics") or (), status.get("currentMetrics") or ()),
        str(spec.get("minReplicas", UNSET)),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        _age(obj, now),
    ]


def _metrics(specs: Sequence[Obj], statuses: Sequence[Obj]) -> str:
    listed = []
    for i, spec in enumerate(specs):
        kind = spec.get("type", "")
        field = kind[:1].lower() + kind[1:]
        source = spec.get(field) or {}
        target = source.get("target") or {}
        current = ((statuses[i].get(field) or {}).get("current") or {}) if i < len(statuses) else {}
        label = f"{source['name']}: " if kind in ("Resource", "ContainerResource") and source.get("name") else ""
        if "averageUtilization" in target:
            have = f"{current['averageUtilization']}%" if "averageUtilization" in current else UNKNOWN
            listed.append(f"{label}{have}/{target['averageUtilization']}%")
        elif "averageValue" in target:
            suffix = " (avg)" if kind in ("Object", "External") else ""
            listed.append(f"{label}{current.get('averageValue', UNKNOWN)}/{target['averageValue']}{suffix}")
        else:
            listed.append(f"{label}{current.get('value', UNKNOWN)}/{target.get('value', UNKNOWN)}")
    if not listed:
        return NONE
    text = ", ".join(listed[:2])
    return f"{text} + {len(listed) - 2} more..." if len(listed) > 2 else text


def certificate_signing_request(obj: Obj, now: float) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    kinds = {c.get("type") for c in status.get("conditions") or ()}
    state = "Denied" if "Denied" in kinds else "Approved" if "Approved" in kinds else "Pending"
    if "Failed" in kinds:
        state += ",Failed"
    if status.get("certificate"):
        state += ",Issued"
    seconds = spec.get("expirationSeconds")
    return [
        _name(obj),
        _age(obj, now),
        spec.get("signerName") or NONE,
        spec.get("username", ""),
        NONE if seconds is None else times.format_duration(seconds),
        state,
    ]


def lease(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), _spec(obj).get("holderIdentity", ""), _age(obj, now)]


def binding(obj: Obj, now: float) -> list[Any]:
    """A RoleBinding or ClusterRoleBinding."""
    ref = obj.get("roleRef") or {}
    subjects: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or ():
        name = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount":
            name = f"{subject.get('namespace', '')}/{name}"
        subjects.setdefault(subject.get("kind", ""), []).append(name)
    shown = [", ".join(subjects[kind]) for kind in ("User", "Group", "ServiceAccount")]
    return [_name(obj), f"{ref.get('kind', '')}/{ref.get('name', '')}", _age(obj, now), *shown]


def webhooks(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), len(obj.get("webhooks") or ()), _age(obj, now)]


def admission_policy(obj: Obj, now: float) -> list[Any]:
    spec = _spec(obj)
    param = spec.get("paramKind")
    shown = f"{param.get('apiVersion', '')}/{param.get('kind', '')}" if param else UNSET
    return [_name(obj), len(spec.get("validations") or ()), shown, _age(obj, now)]


def admission_policy_binding(obj: Obj, now: float) -> list[Any]:
    spec = _spec(obj)
    ref = spec.get("paramRef") or {}
    shown = UNSET
    if ref.get("name"):
        shown = f"{ref.get('namespace', '*')}/{ref['name']}"
    elif ref.get("selector"):
        shown = _selector(ref["selector"])
    return [_name(obj), spec.get("policyName", ""), shown, _age(obj, now)]


def api_service(obj: Obj, now: float) -> list[Any]:
    target = _spec(obj).get("service")
    shown = f"{target.get('namespace', '')}/{target.get('name', '')}" if target else "Local"
    condition = next((c for c in _status(obj).get("conditions") or () if c.get("type") == "Available"), None)
    available = "Unknown"
    if condition is not None:
        available = condition.get("status", "")
        if available != "True":
            available = f"{available} ({condition.get('reason', '')})"
    return [_name(obj), shown, available, _age(obj, now)]


def flow_schema(obj: Obj, now: float) -> list[Any]:
    spec = _spec(obj)
    return [
        _name(obj),
        (spec.get("priorityLevelConfiguration") or {}).get("name", ""),
        spec.get("matchingPrecedence", 0),
        (spec.get("distinguisherMethod") or {}).get("type") or NONE,
        _age(obj, now),
        _condition(obj, "Dangling") or "?",
    ]


def precedence(obj: Obj) -> tuple[int, str]:
    """Where a flow schema stands among others: in the order in which they are asked whether a request is theirs."""
    return _spec(obj).get("matchingPrecedence", 0), _name(obj)


def priority_level(obj: Obj, now: float) -> list[Any]:
    spec = _spec(obj)
    limited = spec.get("limited") or {}
    queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
    return [
        _name(obj),
        spec.get("type", ""),
        limited.get("nominalConcurrencyShares", NONE),
        *(queuing.get(name, NONE) for name in ("queues", "handSize", "queueLengthLimit")),
        _age(obj, now),
    ]


def priority_class(obj: Obj, now: float) -> list[Any]:
    is_default, policy = bool(obj.get("globalDefault")), obj.get("preemptionPolicy", "")
    return [_name(obj), obj.get("value", 0), is_default, _age(obj, now), policy]


def runtime_class(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), obj.get("handler", ""), _age(obj, now)]


def name_and_age(obj: Obj, now: float) -> list[Any]:
    return [_name(obj), _age(obj, now)]


def resource_claim(obj: Obj, now: float) -> list[Any]:
    status, deleted = _status(obj), bool(_meta(obj).get("deletionTimestamp"))
    states = ["deleted"] if deleted else []
    if status.get("allocation"):
        states += ["allocated", *(["reserved"] if status.get("reservedFor") else [])]
    elif not deleted:
        states.append("pending")
    return [_name(obj), ",".join(states), _age(obj, now)]


def resource_slice(obj: Obj, now: float) -> list[Any]:
    spec = _spec(obj)
    pool = (spec.get("pool") or {}).get("name", "")
    return [_name(obj), spec.get("nodeName", ""), spec.get("driver", ""), pool, _age(obj, now)]


_EVENT_COLUMNS = (
    *columns("Last Seen|Type|Reason|Object|Subobject*|Source*|Message|First Seen*|Count*")[1:],
    NAME._replace(priority=1),
)
_REPLICA_COLUMNS = columns("Desired:integer|Current:integer|Ready:integer|Age|Containers*|Images*|Selector*")
_BINDING_COLUMNS = columns("Role|Age|Users*|Groups*|ServiceAccounts*")
_WEBHOOK_COLUMNS = columns("Webhooks:integer|Age")

#: resource -> columns and cells.
TABLES: dict[str, tuple[Sequence[Column], Cells]] = {
    "pods": (columns("Ready|Status|Restarts|Age|IP*|Node*|Nominated Node*|Readiness Gates*"), pod),
    "nodes": (
        columns("Status|Roles|Age|Version|Internal-IP*|External-IP*|OS-Image*|Kernel-Version*|Container-Runtime*"),
        node,
    ),
    "services": (columns("Type|Cluster-IP|External-IP|Port(s)|Age|Selector*"), service),
    "endpoints": (columns("Endpoints|Age"), endpoints),
    "events": (_EVENT_COLUMNS, event),
    "events.events.k8s.io": (_EVENT_COLUMNS, event),
    "componentstatuses": (columns("Status|Message|Error"), component_status),
    "namespaces": (columns("Status|Age"), namespace),
    "configmaps": (columns("Data|Age"), config_map),
    "secrets": (columns("Type|Data|Age"), secret),
    "serviceaccounts": (columns("Secrets|Age"), service_account),
    "replicationcontrollers": (_REPLICA_COLUMNS, replica_set),
    "resourcequotas": (columns("Request|Limit|Age"), resource_quota),
    "podtemplates": (columns("Containers|Images|Pod Labels"), pod_template),
    "persistentvolumes": (
        columns("Capacity|Access Modes|Reclaim Policy|Status|Claim|StorageClass|VolumeAttributesClass|Reason|Age|VolumeMode*"),
        persistent_volume,
    ),
    "persistentvolumeclaims": (
        columns("Status|Volume|Capacity|Access Modes|StorageClass|VolumeAttributesClass|Age|VolumeMode*"),
        persistent_volume_claim,
    ),
    "replicasets.apps": (_REPLICA_COLUMNS, replica_set),
    "deployments.apps": (columns("Ready|Up-to-date|Available|Age|Containers*|Images*|Selector*"), deployment),
    "statefulsets.apps": (columns("Ready|Age|Containers*|Images*"), stateful_set),
    "daemonsets.apps": (
        columns(
            "Desired:integer|Current:integer|Ready:integer|Up-to-date:integer|Available:integer|Node Selector|Age|"
            "Containers*|Images*|Selector*"
        ),
        daemon_set,
    ),
    "controllerrevisions.apps": (columns("Controller|Revision|Age"), controller_revision),
    "jobs.batch": (columns("Status|Completions|Duration|Age|Containers*|Images*|Selector*"), job),
    "cronjobs.batch": (
        columns("Schedule|Timezone|Suspend:boolean|Active:integer|Last Schedule|Age|Containers*|Images*|Selector*"),
        cron_job,
    ),
    "endpointslices.discovery.k8s.io": (columns("AddressType|Ports|Endpoints|Age"), endpoint_slice),
    "ingresses.networking.k8s.io": (columns("Class|Hosts|Address|Ports|Age"), ingress),
    "ingressclasses.networking.k8s.io": (columns("Controller|Parameters|Age"), ingress_class),
    "networkpolicies.networking.k8s.io": (columns("Pod-Selector|Age"), network_policy),
    "ipaddresses.networking.k8s.io": (columns("ParentRef"), ip_address),
    "servicecidrs.networking.k8s.io": (columns("CIDRs|Age"), service_cidr),
    "storageclasses.storage.k8s.io": (
        columns("Provisioner|ReclaimPolicy|VolumeBindingMode|AllowVolumeExpansion|Age"),
        storage_class,
    ),
    "volumeattachments.storage.k8s.io": (
        (NAME, Column("Attacher", "string", "name"), *columns("PV|Node|Attached:boolean|Age")[1:]),
        volume_attachment,
    ),
    "csidrivers.storage.k8s.io": (
        columns(
            "AttachRequired:boolean|PodInfoOnMount:boolean|StorageCapacity:boolean|TokenRequests|RequiresRepublish:boolean|"
            "Modes|Age"
        ),
        csi_driver,
    ),
    "csinodes.storage.k8s.io": (columns("Drivers:integer|Age"), csi_node),
    "volumeattributesclasses.storage.k8s.io": (columns("DriverName|Age"), volume_attributes_class),
    "poddisruptionbudgets.policy": (
        columns("Min Available|Max Unavailable|Allowed Disruptions:integer|Age"),
        pod_disruption_budget,
    ),
    # a Scale, which is a body and no resource
    ".autoscaling": (columns("Desired:integer|Available:integer|Age"), scale),
    "horizontalpodautoscalers.autoscaling": (
        columns("Reference|Targets|MinPods|MaxPods|Replicas|Age"),
        horizontal_pod_autoscaler,
    ),
    "certificatesigningrequests.certificates.k8s.io": (
        columns("Age|SignerName|Requestor|RequestedDuration|Condition"),
        certificate_signing_request,
    ),
    "leases.coordination.k8s.io": (columns("Holder|Age"), lease),
    "rolebindings.rbac.authorization.k8s.io": (_BINDING_COLUMNS, binding),
    "clusterrolebindings.rbac.authorization.k8s.io": (_BINDING_COLUMNS, binding),
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": (_WEBHOOK_COLUMNS, webhooks),
    "validatingwebhookconfigurations.admissionregistration.k8s.io": (_WEBHOOK_COLUMNS, webhooks),
    "validatingadmissionpolicies.admissionregistration.k8s.io": (
        columns("Validations:integer|ParamKind|Age"),
        admission_policy,
    ),
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": (
        columns("PolicyName|ParamRef|Age"),
        admission_policy_binding,
    ),
    "apiservices.apiregistration.k8s.io": (columns("Service|Available|Age"), api_service),
    "flowschemas.flowcontrol.apiserver.k8s.io": (
        columns("PriorityLevel|MatchingPrecedence|DistinguisherMethod|Age|MissingPL"),
        flow_schema,
    ),
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": (
        columns("Type|NominalConcurrencyShares|Queues|HandSize|QueueLengthLimit|Age"),
        priority_level,
    ),
    "priorityclasses.scheduling.k8s.io": (
        columns("Value:integer|Global-Default:boolean|Age|PreemptionPolicy"),
        priority_class,
    ),
    "runtimeclasses.node.k8s.io": (columns("Handler|Age"), runtime_class),
    "deviceclasses.resource.k8s.io": (columns("Age"), name_and_age),
    "resourceclaimtemplates.resource.k8s.io": (columns("Age"), name_and_age),
    "resourceclaims.resource.k8s.io": (columns("State|Age"), resource_claim),
    "resourceslices.resource.k8s.io": (columns("Node|Driver|Pool|Age"), resource_slice),
}

# The order of the rows, for kinds that don't come in that of their names.
ORDERS: dict[str, Callable[[Obj], tuple[int, str]]] = {"flowschemas.flowcontrol.apiserver.k8s.io": precedence}
