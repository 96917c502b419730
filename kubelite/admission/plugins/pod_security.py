"""PodSecurity: a namespace's labels say which Pod Security Standard its pods must meet, and of which to warn.

Source: pod-security-admission admission/admission.go, api/helpers.go, v0.34; KEP-2579.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from kubelite.admission import faults, pod_security
from kubelite.client.contract import Client
from kubelite.client.informers import Informers
from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind

PREFIX = "pod-security.kubernetes.io/"
LEVELS = ("privileged", "baseline", "restricted")
_LATEST = 1 << 30
_VERSION = re.compile(r"v1\.([0-9]|[1-9][0-9]*)")
_MAX_CHECKED_PODS = 3000
#: Where each kind keeps its pod template.
_TEMPLATES = {
    "replicationcontrollers": ("spec", "template"),
    "podtemplates": ("template",),
    "replicasets.apps": ("spec", "template"),
    "deployments.apps": ("spec", "template"),
    "statefulsets.apps": ("spec", "template"),
    "daemonsets.apps": ("spec", "template"),
    "jobs.batch": ("spec", "template"),
    "cronjobs.batch": ("spec", "jobTemplate", "spec", "template"),
}
_POD_SUBRESOURCES = ("", "ephemeralcontainers", "resize")


class Standard(NamedTuple):
    """A level of a version; `minor` is `_LATEST` for latest."""

    level: str = "privileged"
    minor: int = _LATEST

    def __str__(self) -> str:
        return f"{self.level}:{'latest' if self.minor == _LATEST else f'v1.{self.minor}'}"

    def faults(self, metadata: Obj, spec: Obj) -> list[tuple[str, str]]:
        return pod_security.faults(self.level, self.minor, metadata, spec)


class Policy(NamedTuple):
    """What a namespace's labels ask for. `causes` name the labels that can't be read."""

    enforce: Standard = Standard()
    audit: Standard = Standard()
    warn: Standard = Standard()
    causes: tuple[errors.Cause, ...] = ()


class PodSecurity:
    name = "PodSecurity"

    def __init__(self, client: Client, informers: Informers, default: Policy | None = None) -> None:
        self._client = client
        self._namespaces = informers.of("namespaces")
        self._pods = informers.of("pods")
        self._default = default or Policy()

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        if operation not in ("CREATE", "UPDATE"):
            return False
        resource = kind.group_resource
        if resource == "pods":
            return subresource in _POD_SUBRESOURCES
        return not subresource and (resource == "namespaces" or resource in _TEMPLATES)

    async def validate(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if obj is None:
            return
        resource = attributes.target.kind.group_resource
        if resource == "namespaces":
            self._check_namespace(attributes, obj)
            return
        policy = await self._policy(attributes.target.namespace)
        if policy is None:
            return
        if resource == "pods":
            if attributes.old is None or _is_significant(obj["spec"], attributes.old["spec"]):
                _check_pod(attributes, policy, obj["metadata"], obj["spec"], enforce=True)
        elif policy.warn.level != "privileged":
            template = _template(obj, _TEMPLATES[resource])
            if template is not None:
                _check_pod(attributes, policy, template.get("metadata") or {}, template["spec"], enforce=False)

    async def _policy(self, name: str) -> Policy | None:
        """The policy of a namespace; None where it forbids nothing."""
        namespace = self._namespaces.get(name)
        if namespace is None:
            try:
                namespace = await self._client.get("namespaces", name)
            except errors.NotFound:
                raise errors.InternalError.of(f'failed to lookup namespace "{name}"') from None
        labels = namespace["metadata"].get("labels") or {}
        if self._default == _NOTHING and not any(label.startswith(PREFIX) for label in labels):
            return None
        policy = parse_policy(labels, self._default)
        return policy if policy.causes or policy != _NOTHING else None

    def _check_namespace(self, attributes: Attributes, namespace: Obj) -> None:
        new = parse_policy(namespace["metadata"].get("labels") or {}, self._default)
        if attributes.old is None:
            if new.causes:
                raise errors.Invalid.of("", "Namespace", faults.name_of(attributes), new.causes)
            return
        old = parse_policy(attributes.old["metadata"].get("labels") or {}, self._default)
        if new.causes and new.causes != old.causes:
            raise errors.Invalid.of("", "Namespace", faults.name_of(attributes), new.causes)
        if new.enforce == old.enforce or new.enforce.level == "privileged":
            return
        if new.enforce.minor == old.enforce.minor and LEVELS.index(new.enforce.level) <= LEVELS.index(old.enforce.level):
            return
        attributes.warnings.extend(self._violations(attributes.target.name, new.enforce))

    def _violations(self, namespace: str, standard: Standard) -> list[str]:
        """Warnings about the pods that a namespace has and a standard would not let in."""
        found: dict[str, list[str]] = {}
        pods = self._pods.list(namespace)
        for pod in pods[:_MAX_CHECKED_PODS]:
            if reasons := pod_security.format_reasons(standard.faults(pod["metadata"], pod["spec"])):
                found.setdefault(reasons, []).append(pod["metadata"]["name"])
        warnings = []
        if len(pods) > _MAX_CHECKED_PODS:
            text = (
                f"new PodSecurity enforce level only checked against the first {_MAX_CHECKED_PODS} of {len(pods)} existing pods"
            )
            warnings.append(text)
        if found:
            warnings.append(f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{standard}"')
        others = {1: "", 2: " (and 1 other pod)"}
        lines = (
            f"{min(names)}{others.get(len(names), f' (and {len(names) - 1} other pods)')}: {reasons}"
            for reasons, names in found.items()
        )
        return warnings + sorted(lines)


def parse_policy(labels: Mapping[str, str], default: Policy) -> Policy:
    """What labels ask for, on top of a default. A level that can't be read enforces the strictest, and warns of nothing."""
    modes = {"enforce": default.enforce, "audit": default.audit, "warn": default.warn}
    causes = []
    unreadable = set()
    for mode, standard in modes.items():
        level, version = labels.get(PREFIX + mode), labels.get(f"{PREFIX}{mode}-version")
        if level is not None:
            if level not in LEVELS:
                causes.append(_invalid(mode, level, f"must be one of {', '.join(LEVELS)}"))
                unreadable.add(mode)
                level = "restricted" if mode == "enforce" else "privileged"
            standard = standard._replace(level=level)
        if version is not None:
            match = _VERSION.fullmatch(version)
            if match is None and version != "latest":
                causes.append(_invalid(f"{mode}-version", version, 'must be "latest" or "v1.x"'))
            standard = standard._replace(minor=int(match[1]) if match else _LATEST)
        modes[mode] = standard
    enforce, warn = modes["enforce"], modes["warn"]
    explicit = PREFIX + "enforce" in labels and "enforce" not in unreadable
    if explicit and PREFIX + "warn" not in labels and LEVELS.index(enforce.level) > LEVELS.index(warn.level):
        # Who enforces a level wants to know of templates that won't get their pods.
        warn = enforce if PREFIX + "warn-version" not in labels else warn._replace(level=enforce.level)
    return Policy(enforce, modes["audit"], warn, tuple(causes))


_NOTHING = Policy()


def _invalid(label: str, value: str, detail: str) -> errors.Cause:
    return errors.invalid(f"metadata.labels[{PREFIX}{label}]", value, detail)


def _check_pod(attributes: Attributes, policy: Policy, metadata: Obj, spec: Obj, *, enforce: bool) -> None:
    if enforce:
        found = policy.enforce.faults(metadata, spec)
        if found:
            raise faults.forbidden(attributes, f'violates PodSecurity "{policy.enforce}": {pod_security.format_faults(found)}')
    if enforce and policy.warn == policy.enforce:
        return
    found = policy.warn.faults(metadata, spec)
    if found:
        attributes.warnings.append(f'would violate PodSecurity "{policy.warn}": {pod_security.format_faults(found)}')


def _template(obj: Obj, path: tuple[str, ...]) -> Obj | None:
    found: Obj | None = obj
    for field in path:
        found = (found or {}).get(field)
    return found if found and found.get("spec") else None


def _is_significant(new: Obj, old: Obj) -> bool:
    """Whether an update changes what the standards look at: containers added, or another image in one."""
    for field in ("containers", "initContainers"):
        images = [[c.get("image") for c in spec.get(field) or ()] for spec in (new, old)]
        if images[0] != images[1]:
            return True
    before = {c["name"]: c.get("image") for c in old.get("ephemeralContainers") or ()}
    return any(c["name"] not in before or c.get("image") != before[c["name"]] for c in new.get("ephemeralContainers") or ())
