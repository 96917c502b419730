"""The files of volumes that the API's objects fill: config maps, secrets, the downward API, and projections of these.

Source: pkg/volume/{configmap,secret,downwardapi,projected} (errors, modes, precedence), v1.34.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kubelite.agent import downward
from kubelite.agent.faults import ConfigFault
from kubelite.agent.objects import Objects
from kubelite.agent.tokens import DEFAULT_LIFETIME_S, Tokens
from kubelite.agent.volumes.atomic import File
from kubelite.meta.types import Obj

DEFAULT_MODE = 0o644


@dataclass(frozen=True, slots=True)
class Sources:
    """Where payloads come from."""

    objects: Objects
    tokens: Tokens
    host_ips: tuple[str, ...] = ()
    allocatable: Mapping[str, str] = field(default_factory=dict)


async def of_volume(pod: Obj, volume: Obj, sources: Sources) -> dict[str, File] | None:
    """The files of a volume that objects fill; None for another kind of volume.

    Raises:
        ConfigFault: something that is not optional is missing.
    """
    namespace = pod["metadata"]["namespace"]
    if source := volume.get("configMap"):
        mode = source.get("defaultMode", DEFAULT_MODE)
        return _object(sources.objects, "configmaps", namespace, source.get("name", ""), source, mode)
    if source := volume.get("secret"):
        mode = source.get("defaultMode", DEFAULT_MODE)
        return _object(sources.objects, "secrets", namespace, source.get("secretName", ""), source, mode)
    if (source := volume.get("downwardAPI")) is not None:
        return _downward(pod, source.get("items") or (), source.get("defaultMode", DEFAULT_MODE), sources)
    if source := volume.get("projected"):
        return await _projected(pod, source, sources)
    return None


async def _projected(pod: Obj, projection: Obj, sources: Sources) -> dict[str, File]:
    namespace = pod["metadata"]["namespace"]
    mode = projection.get("defaultMode", DEFAULT_MODE)
    files: dict[str, File] = {}
    for source in projection.get("sources") or ():
        if part := source.get("secret"):
            files |= _object(sources.objects, "secrets", namespace, part.get("name", ""), part, mode)
        elif part := source.get("configMap"):
            files |= _object(sources.objects, "configmaps", namespace, part.get("name", ""), part, mode)
        elif part := source.get("downwardAPI"):
            files |= _downward(pod, part.get("items") or (), mode, sources)
        elif part := source.get("serviceAccountToken"):
            lifetime_s = part.get("expirationSeconds", DEFAULT_LIFETIME_S)
            token = await sources.tokens.get(pod, part.get("audience", ""), lifetime_s)
            owner, its_mode = _token_owner(pod, mode)
            files[part["path"]] = File(token.encode(), its_mode, uid=owner)
        elif (part := source.get("clusterTrustBundle")) and not part.get("optional"):
            raise ConfigFault("cluster trust bundles are not served by this cluster")
    return files


def _token_owner(pod: Obj, mode: int) -> tuple[int, int]:
    """A token is readable by its user alone where all containers have one user; by the group where there is an fsGroup."""
    pod_level = pod["spec"].get("securityContext") or {}
    users = {
        (c.get("securityContext") or {}).get("runAsUser", pod_level.get("runAsUser"))
        for c in [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]
    }
    owner = next(iter(users)) if len(users) == 1 else None
    private = owner is not None or pod_level.get("fsGroup") is not None
    return (-1 if owner is None else owner), (0o600 if private else mode)


def _object(objects: Objects, resource: str, namespace: str, name: str, source: Obj, mode: int) -> dict[str, File]:
    kind = resource.removesuffix("s")
    obj = objects.get(resource, name, namespace)
    if obj is None:
        if source.get("optional"):
            return {}
        raise ConfigFault(f'{kind} "{name}" not found')
    content: dict[str, bytes] = {}
    for key, value in (obj.get("data") or {}).items():
        content[key] = base64.b64decode(value) if resource == "secrets" else value.encode()
    for key, value in (obj.get("binaryData") or {}).items():
        content[key] = base64.b64decode(value)
    items = source.get("items")
    if not items:
        return {key: File(data, mode) for key, data in content.items()}
    files = {}
    for item in items:
        if item["key"] not in content:
            if source.get("optional"):
                continue
            what = "references non-existent secret" if kind == "secret" else "configmap references non-existent config"
            raise ConfigFault(f"{what} key: {item['key']}")
        files[_checked(item["path"])] = File(content[item["key"]], item.get("mode") or mode)
    return files


def _downward(pod: Obj, items: Sequence[Obj], mode: int, sources: Sources) -> dict[str, File]:
    files = {}
    for item in items:
        if ref := item.get("fieldRef"):
            text = downward.field_value(pod, ref["fieldPath"], host_ips=sources.host_ips)
        else:
            text = downward.resource_value(pod, item["resourceFieldRef"], None, sources.allocatable)
        files[_checked(item["path"])] = File(text.encode(), item.get("mode") or mode)
    return files


def _checked(path: str) -> str:
    """A path of the user's as one below the volume."""
    parts = path.split("/")
    if path.startswith(("/", "..")) or ".." in parts or not path:
        raise ConfigFault(f"invalid path {path!r}: must be relative and without '..'")
    return "/".join(p for p in parts if p not in ("", "."))
