"""ResourceQuota: a write that would use more than a namespace's quotas allow is refused, and what it uses is noted at once.

Writes of one namespace are weighed together: whoever gets the namespace's turn weighs all that wait, so that a burst of
creates costs one update of each quota, and two creates can't both take the last place. A write that fails later leaves its
usage noted until the quota controller counts again, as in Kubernetes.

Source: apiserver pkg/admission/plugin/resourcequota/controller.go.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from kubelite.admission import faults, usage
from kubelite.client.contract import Client
from kubelite.client.informers import Informers
from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind

_TRIES = 8
#: Between tries, doubled each time: a write of somebody else may still wait for its commit, and is not readable until then.
_FIRST_BACKOFF_S = 0.002


@dataclass(slots=True, eq=False)
class _Waiting:
    attributes: Attributes
    result: asyncio.Future[None]


@dataclass(slots=True, weakref_slot=True, eq=False)
class _Namespace:
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: list[_Waiting] = field(default_factory=list)


class ResourceQuota:
    name = "ResourceQuota"

    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self._quotas = informers.of("resourcequotas")
        self._namespaces: WeakValueDictionary[str, _Namespace] = WeakValueDictionary()
        # What this plugin wrote and the informer has not shown yet.
        self._written: dict[tuple[str, str], Obj] = {}
        self._quotas.subscribe(self._changed)

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        if not kind.namespaced or kind.group_resource in usage.IGNORED or operation not in ("CREATE", "UPDATE"):
            return False
        if kind.group_resource == "pods":
            return (operation, subresource) in (("CREATE", ""), ("UPDATE", ""), ("UPDATE", "resize"))
        if subresource:
            return False
        # Whatever else is only counted uses the same after an update.
        return operation == "CREATE" or kind.group_resource in ("services", "persistentvolumeclaims")

    async def validate(self, attributes: Attributes) -> None:
        if attributes.obj is None or not self._is_limited(attributes):
            return
        if attributes.dry_run:
            self._weigh(attributes, {q["metadata"]["name"]: q for q in self._current(attributes.target.namespace)})
            return
        name = attributes.target.namespace
        namespace = self._namespaces.get(name)
        if namespace is None:
            namespace = self._namespaces[name] = _Namespace()
        mine = _Waiting(attributes, asyncio.get_running_loop().create_future())
        namespace.waiting.append(mine)
        try:
            async with namespace.turn:
                if not mine.result.done():
                    await self._take_turn(namespace, name)
        finally:
            if mine in namespace.waiting:
                namespace.waiting.remove(mine)
            if not mine.result.done():
                mine.result.cancel()
        mine.result.result()

    def _is_limited(self, attributes: Attributes) -> bool:
        """Whether a quota of the namespace counts objects of this kind at all; the answer for most writes is no."""
        resource = attributes.target.kind.group_resource
        if resource == "pods" and attributes.operation == "UPDATE" and not attributes.target.subresource:
            old, new = attributes.old, attributes.obj
            if old is None or new is None or usage.is_terminating(old) == usage.is_terminating(new):
                return False
        quotas = self._quotas.list(attributes.target.namespace)
        return any(usage.concerns(resource, (q.get("status") or {}).get("hard") or q["spec"].get("hard") or ()) for q in quotas)

    async def _take_turn(self, namespace: _Namespace, name: str) -> None:
        batch, namespace.waiting = namespace.waiting, []
        try:
            for attempt in range(_TRIES):
                if attempt:
                    await asyncio.sleep(_FIRST_BACKOFF_S * 2**attempt * (0.5 + random.random() / 2))
                before = {q["metadata"]["name"]: q for q in (await self._live(name) if attempt else self._current(name))}
                after = self._weigh_all(batch, before)
                if await self._write([after[n] for n in after if after[n] is not before[n]]):
                    break
            else:
                for one in batch:
                    if not one.result.done():
                        why = "Operation cannot be fulfilled on resourcequotas: they change too fast, try again"
                        one.result.set_exception(errors.Conflict(why, kind="resourcequotas"))
            for one in batch:
                if not one.result.done():
                    one.result.set_result(None)
        finally:
            # Whoever was not weighed (this turn was cancelled, or the write failed) takes part in the next turn.
            namespace.waiting[:0] = [one for one in batch if not one.result.done()]

    def _weigh_all(self, batch: Sequence[_Waiting], quotas: dict[str, Obj]) -> dict[str, Obj]:
        """The quotas after all that they allow; who is refused is told at once."""
        for one in batch:
            if one.result.done():
                continue
            try:
                quotas = self._weigh(one.attributes, quotas)
            except errors.ApiError as error:
                one.result.set_exception(error)
        return quotas

    def _weigh(self, attributes: Attributes, quotas: dict[str, Obj]) -> dict[str, Obj]:
        """The quotas with what one write uses. Raises Forbidden when it doesn't fit."""
        resource, obj, old = attributes.target.kind.group_resource, attributes.obj or {}, attributes.old
        if resource == "pods" and attributes.target.subresource == "resize" and old is not None:
            obj = obj | {"status": old.get("status") or {}}
        used = usage.usage_of(resource, obj)
        changed = dict(quotas)
        for name, quota in quotas.items():
            hard = (quota.get("status") or {}).get("hard") or {}
            names = usage.concerns(resource, hard)
            if not names or not usage.matches_scopes(quota, resource, obj):
                continue
            lacking = usage.missing(names, obj) if resource == "pods" else ""
            if lacking:
                raise faults.forbidden(attributes, f"failed quota: {name}: {lacking}")
            before = (quota.get("status") or {}).get("used") or {}
            unknown = sorted(n for n in names if n not in before)
            if unknown:
                raise faults.forbidden(attributes, f"status unknown for quota: {name}, resources: {','.join(unknown)}")
            delta = used
            if attributes.operation == "UPDATE" and old is not None and usage.matches_scopes(quota, resource, old):
                delta = usage.without_negatives(usage.subtracted(used, usage.usage_of(resource, old)))
            delta = usage.masked(usage.without_zeros(delta), names)
            if not delta:
                continue
            total = usage.added(before, delta)
            over = usage.exceeding(usage.masked(total, delta), hard)
            if over:
                parts = (usage.format_resources(usage.masked(r, over)) for r in (delta, before, hard))
                text = "exceeded quota: {}, requested: {}, used: {}, limited: {}".format(name, *parts)
                raise faults.forbidden(attributes, text)
            changed[name] = quota | {"status": quota["status"] | {"used": total}}
        return changed

    async def _write(self, quotas: list[Obj]) -> bool:
        """Writes the quotas' new usage; False when somebody else changed one of them in between."""
        for quota in quotas:
            metadata = quota["metadata"]
            try:
                written = await self._client.update("resourcequotas", quota, subresource="status")
            except errors.Conflict:
                return False
            except errors.NotFound:
                continue  # a quota that was deleted limits nothing
            self._written[metadata["namespace"], metadata["name"]] = written
        return True

    def _current(self, namespace: str) -> list[Obj]:
        """The quotas of a namespace as far as this process knows them."""
        quotas = []
        for quota in self._quotas.list(namespace):
            written = self._written.get((namespace, quota["metadata"]["name"]))
            quotas.append(quota if written is None or _revision(quota) >= _revision(written) else written)
        return quotas

    async def _live(self, namespace: str) -> list[Obj]:
        return (await self._client.list("resourcequotas", namespace)).items

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        quota = new or old or {}
        key = quota["metadata"].get("namespace", ""), quota["metadata"]["name"]
        written = self._written.get(key)
        if written is not None and (new is None or _revision(new) >= _revision(written)):
            del self._written[key]


def _revision(obj: Obj) -> int:
    return int(obj["metadata"]["resourceVersion"])
