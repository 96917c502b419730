"""Checks of API services.

Source: kube-aggregator pkg/apis/apiregistration/validation/validation.go, v0.34.
"""

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields

_STATUSES = ("False", "True", "Unknown")
MAX_GROUP_PRIORITY, MAX_VERSION_PRIORITY = 20000, 1000


def check_api_service(obj: Obj) -> list[Cause]:
    spec, name = obj.get("spec") or {}, obj["metadata"].get("name", "")
    group, version = spec.get("group", ""), spec.get("version", "")
    causes: list[Cause] = []
    if name != f"{version}.{group}":
        text = f'must be `spec.version+"."+spec.group`: "{version}.{group}"'
        causes.append(errors.invalid("metadata.name", name, text))
    if not group and version != "v1":
        text = "only v1 may have an empty group and it better be legacy kube"
        causes.append(errors.required("spec.group", text))
    if group:
        causes += fields.invalid_if(names.dns1123_subdomain(group), "spec.group", group)
    causes += fields.invalid_if(names.dns1035_label(version), "spec.version", version)
    for field, limit in (("groupPriorityMinimum", MAX_GROUP_PRIORITY), ("versionPriority", MAX_VERSION_PRIORITY)):
        priority = spec.get(field, 0)
        if not 0 < priority <= limit:
            causes.append(errors.invalid(f"spec.{field}", priority, f"must be positive and less than {limit}"))
    return causes + _check_service(spec)


def check_status(obj: Obj) -> list[Cause]:
    return [
        cause
        for index, condition in enumerate((obj.get("status") or {}).get("conditions") or ())
        for cause in fields.optional_one_of(condition.get("status", ""), f"status.conditions[{index}].status", _STATUSES)
    ]


def _check_service(spec: Obj) -> list[Cause]:
    """Where the group is served, and how its server is known."""
    service, bundle, trusting = spec.get("service"), spec.get("caBundle"), spec.get("insecureSkipTLSVerify")
    causes: list[Cause] = []
    if service is None:
        if bundle:
            text = f"{len(bundle) * 3 // 4} bytes"
            causes.append(errors.invalid("spec.caBundle", text, "local APIServices may not have a caBundle"))
        if trusting:
            text = "local APIServices may not have insecureSkipTLSVerify"
            causes.append(errors.invalid("spec.insecureSkipTLSVerify", True, text))
        return causes
    causes += [errors.required(f"spec.service.{field}") for field in ("namespace", "name") if not service.get(field)]
    port = service.get("port", 443)
    if names.port_number(port):
        text = f"port is not valid: {', '.join(names.port_number(port))}"
        causes.append(errors.invalid("spec.service.port", port, text))
    if trusting and bundle:
        causes.append(errors.invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present"))
    return causes
