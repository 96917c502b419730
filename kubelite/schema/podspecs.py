"""Defaults of pods and of everything that holds a pod's specification.

All functions change objects in their normal form (see `checking.normal`) in place: a zero value that means "not given" is not
there.

Source: kubernetes pkg/apis/core/v1/defaults.go and zz_generated.defaults.go, v1.34.
"""

import re
from functools import lru_cache

from kubelite.meta import quantities
from kubelite.meta.types import Obj

_DEFAULT_MODE = 0o644
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PLAIN_VOLUME_DEFAULTS: dict[str, Obj] = {
    "hostPath": {"type": ""},
    "secret": {"defaultMode": _DEFAULT_MODE},
    "configMap": {"defaultMode": _DEFAULT_MODE},
    "downwardAPI": {"defaultMode": _DEFAULT_MODE},
    "projected": {"defaultMode": _DEFAULT_MODE},
    "iscsi": {"iscsiInterface": "default"},
    "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "azureDisk": {"cachingMode": "ReadWrite", "fsType": "ext4", "readOnly": False, "kind": "Shared"},
    "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
}

_IMAGE = re.compile(
    r"(?:[A-Za-z0-9.-]+(?::\d+)?/|\[[0-9a-fA-F:]+\](?::\d+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?P<digest>@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)


def pod(obj: Obj) -> None:
    """A whole pod: what only pods get, beyond their templates."""
    spec = obj["spec"]
    containers, init_containers = spec.get("containers") or (), spec.get("initContainers") or ()
    for container in (*containers, *init_containers):
        _requests_from_limits(container.get("resources"))
    if "resources" in spec:
        _pod_resources(spec, spec["resources"])
    spec.setdefault("enableServiceLinks", True)
    if spec.get("hostNetwork"):
        for container in (*containers, *init_containers):
            for port in container.get("ports") or ():
                if port.get("containerPort"):
                    port.setdefault("hostPort", port["containerPort"])
    specification(spec)
    status = obj["status"]
    if status:
        for name in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
            for found in status.get(name) or ():
                resource_list(found.get("allocatedResources"))
                requirements(found.get("resources"))


def template(obj: Obj | None) -> None:
    """A pod template, as workloads hold it."""
    if obj is not None:
        specification(obj.setdefault("spec", {}))


def specification(spec: Obj) -> None:
    """A pod's specification, wherever it stands."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    # two names of one field, and the newer one wins
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for name in ("initContainers", "containers", "ephemeralContainers"):
        for found in spec.get(name) or ():
            container(found)
    for found in spec.get("volumes") or ():
        volume(found)
    resource_list(spec.get("overhead"))
    requirements(spec.get("resources"))


def container(obj: Obj) -> None:
    if "imagePullPolicy" not in obj:
        obj["imagePullPolicy"] = pull_policy(obj.get("image", ""))
    obj.setdefault("terminationMessagePath", "/dev/termination-log")
    obj.setdefault("terminationMessagePolicy", "File")
    for port in obj.get("ports") or ():
        port.setdefault("protocol", "TCP")
    for variable in obj.get("env") or ():
        source = variable.get("valueFrom")
        if source:
            field, file = source.get("fieldRef"), source.get("fileKeyRef")
            if field is not None:
                field.setdefault("apiVersion", "v1")
            if file is not None:
                file.setdefault("optional", False)
    requirements(obj.get("resources"))
    for name in _PROBES:
        found = obj.get(name)
        if found is not None:
            probe(found)
    for hook in (obj.get("lifecycle") or {}).values():
        if isinstance(hook, dict):
            _http_get(hook.get("httpGet"))


def probe(obj: Obj) -> None:
    obj.setdefault("timeoutSeconds", 1)
    obj.setdefault("periodSeconds", 10)
    obj.setdefault("successThreshold", 1)
    obj.setdefault("failureThreshold", 3)
    _http_get(obj.get("httpGet"))
    grpc = obj.get("grpc")
    if grpc is not None:
        grpc.setdefault("service", "")


def _http_get(action: Obj | None) -> None:
    if action is not None:
        action.setdefault("path", "/")
        action.setdefault("scheme", "HTTP")


def volume(obj: Obj) -> None:
    if len(obj) < 2:
        obj["emptyDir"] = {}
        return
    volume_source(obj)
    image = obj.get("image")
    if image is not None:
        image.setdefault("pullPolicy", pull_policy(image.get("reference", "")))
    for item in (obj.get("downwardAPI") or {}).get("items") or ():
        _field_ref(item)
    for source in (obj.get("projected") or {}).get("sources") or ():
        for item in (source.get("downwardAPI") or {}).get("items") or ():
            _field_ref(item)
        token = source.get("serviceAccountToken")
        if token is not None:
            token.setdefault("expirationSeconds", 3600)
    claim = (obj.get("ephemeral") or {}).get("volumeClaimTemplate")
    if claim is not None:
        claim_specification(claim.setdefault("spec", {}))


def volume_source(obj: Obj) -> None:
    """The sources that pods' volumes and persistent volumes have in common."""
    for name in obj.keys() & _PLAIN_VOLUME_DEFAULTS.keys():
        for key, value in _PLAIN_VOLUME_DEFAULTS[name].items():
            obj[name].setdefault(key, value)


def _field_ref(item: Obj) -> None:
    field = item.get("fieldRef")
    if field is not None:
        field.setdefault("apiVersion", "v1")


def claim_specification(spec: Obj) -> None:
    """A persistent volume claim's specification, wherever it stands."""
    spec.setdefault("volumeMode", "Filesystem")
    requirements(spec.get("resources"))


def requirements(resources: Obj | None) -> None:
    if resources:
        resource_list(resources.get("limits"))
        resource_list(resources.get("requests"))


def resource_list(amounts: dict[str, str] | None) -> None:
    """Amounts below a thousandth are rounded up to one."""
    if amounts:
        for name, amount in amounts.items():
            if amount[-1] in "nu":
                amounts[name] = quantities.format_milli(quantities.milli(amount))


def _requests_from_limits(resources: Obj | None) -> None:
    limits = resources.get("limits") if resources else None
    if resources is not None and limits:
        requests = resources.setdefault("requests", {})
        for name, amount in limits.items():
            requests.setdefault(name, amount)


def _pod_resources(spec: Obj, resources: Obj) -> None:
    """Requests and huge page limits of a pod that has some resources of its own: from its containers, then from its limits."""
    if not resources.get("limits") and not resources.get("requests"):
        return
    limits: Obj = dict(resources.get("limits") or {})
    for name, amount in aggregate(spec, "limits").items():
        if name.startswith("hugepages-") and name not in (resources.get("requests") or {}):
            limits.setdefault(name, amount)
    if not limits:
        return
    resources["limits"] = limits
    requests: Obj = dict(resources.get("requests") or {})
    for name, amount in aggregate(spec, "requests").items():
        if name in ("cpu", "memory"):
            requests.setdefault(name, amount)
    for name, amount in limits.items():
        if name in ("cpu", "memory") or name.startswith("hugepages-"):
            requests.setdefault(name, amount)
    if requests:
        resources["requests"] = requests


def aggregate(spec: Obj, side: str) -> dict[str, str]:
    """What all containers need together: the sum of those that stay, or what one init container needs with the sidecars before
    it, where that is more.

    Source: component-helpers resource/helpers.go AggregateContainerRequests.
    """
    totals: dict[str, tuple[int, str]] = {}
    sidecars: dict[str, int] = {}
    peaks: dict[str, tuple[int, str]] = {}

    def amounts(container: Obj) -> dict[str, str]:
        found: dict[str, str] = (container.get("resources") or {}).get(side) or {}
        return found

    for found in spec.get("containers") or ():
        for name, amount in amounts(found).items():
            totals[name] = (totals.get(name, (0, ""))[0] + quantities.milli(amount), amount)
    for found in spec.get("initContainers") or ():
        for name, amount in amounts(found).items():
            need = quantities.milli(amount)
            if found.get("restartPolicy") == "Always":
                totals[name] = (totals.get(name, (0, ""))[0] + need, amount)
                sidecars[name] = need = sidecars.get(name, 0) + need
            else:
                need += sidecars.get(name, 0)
            if need > peaks.get(name, (0, ""))[0]:
                peaks[name] = (need, amount)
    for name, peak in peaks.items():
        if peak[0] > totals.get(name, (0, ""))[0]:
            totals[name] = peak
    return {
        name: quantities.format_milli(total)
        if total % 1000
        else quantities.format_value(total // 1000, like if like[-1:] == "i" else "")
        for name, (total, like) in totals.items()
    }


@lru_cache(maxsize=4096)
def pull_policy(image: str) -> str:
    """When an image is pulled whose container doesn't say: always where its tag is `latest` or nothing names a version."""
    match = _IMAGE.fullmatch(image)
    if match is None:
        return "IfNotPresent"
    tag = match["tag"] or ("" if match["digest"] else "latest")
    return "Always" if tag == "latest" else "IfNotPresent"
