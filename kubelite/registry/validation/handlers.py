"""Checks of what a node calls in or at a container: its probes and its lifecycle hooks.

Source: kubernetes pkg/apis/core/validation/validation.go, v1.34. Stop signals (alpha) are dropped before.
"""

from collections.abc import Mapping

from kubelite.meta import errors, names
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import fields

_OF_PROBES = ("exec", "httpGet", "tcpSocket", "grpc")
_OF_HOOKS = ("exec", "httpGet", "tcpSocket", "sleep")
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_COUNTS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def check(container: Mapping[str, Obj], grace_s: int | None, at: str) -> list[Cause]:
    """The hooks and the probes of a container in a pod that gets `grace_s` to end."""
    causes: list[Cause] = []
    lifecycle = container.get("lifecycle")
    if lifecycle:
        for hook in ("postStart", "preStop"):
            if hook in lifecycle:
                causes += _check_handler(lifecycle[hook], _OF_HOOKS, grace_s, f"{at}.lifecycle.{hook}")
    for name in PROBES:
        if name in container:
            causes += _check_probe(container[name], name, f"{at}.{name}")
    return causes


def _check_probe(probe: Obj, name: str, path: str) -> list[Cause]:
    causes = _check_handler(probe, _OF_PROBES, None, path)
    for count in _COUNTS:
        causes += fields.non_negative(probe.get(count), f"{path}.{count}")
    grace = probe.get("terminationGracePeriodSeconds")
    if name == "readinessProbe":
        if grace is not None:
            causes.append(errors.invalid(f"{path}.terminationGracePeriodSeconds", grace, "must not be set for readinessProbes"))
    elif probe.get("successThreshold") != 1:
        causes.append(errors.invalid(f"{path}.successThreshold", probe.get("successThreshold", 0), "must be 1"))
    if grace is not None and grace <= 0:
        causes.append(errors.invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
    return causes


def _check_handler(handler: Obj, kinds: tuple[str, ...], grace_s: int | None, path: str) -> list[Cause]:
    given = [kind for kind in kinds if kind in handler]
    if not given:
        return [errors.required(path, "must specify a handler type")]
    causes = [errors.forbidden(f"{path}.{kind}", "may not specify more than 1 handler type") for kind in given[1:]]
    kind = given[0]
    action, at = handler[kind], f"{path}.{kind}"
    match kind:
        case "exec":
            if not action.get("command"):
                causes.append(errors.required(f"{at}.command"))
        case "httpGet":
            causes += _check_http(action, at)
        case "sleep":
            seconds = action.get("seconds", 0)
            if grace_s is not None and not 0 <= seconds <= grace_s:
                text = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_s})"
                causes.append(errors.invalid(at, seconds, text))
        case _:
            causes += fields.port_or_name(action.get("port"), f"{at}.port")
    return causes


def _check_http(action: Obj, path: str) -> list[Cause]:
    causes = fields.port_or_name(action.get("port"), f"{path}.port")
    if not action.get("path"):
        causes.append(errors.required(f"{path}.path"))
    if action.get("scheme") not in ("HTTP", "HTTPS"):
        causes.append(errors.not_supported(f"{path}.scheme", action.get("scheme", ""), ("HTTP", "HTTPS")))
    for header in action.get("httpHeaders") or ():
        name = header.get("name", "")
        causes += fields.invalid_if(names.http_header_name(name), f"{path}.httpHeaders", name)
    return causes
