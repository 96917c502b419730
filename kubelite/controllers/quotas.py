"""Resource quotas: what is used in a namespace, counted anew when objects go or quotas change.

Admission raises the numbers when objects come; this lowers them again, and puts right what got out of step.

Source: kubernetes pkg/controller/resourcequota, v1.34.
"""

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from kubelite.admission import usage
from kubelite.client.informers import Informer
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller, key_of, split_key
from kubelite.meta import pods
from kubelite.meta.errors import ApiError
from kubelite.meta.types import Obj

RESOURCE = "resourcequotas"
#: Kinds of which a quota counts more than the number.
WHOLE = frozenset({"pods", "services", "persistentvolumeclaims"})
SYNC_TIMEOUT_S = 5.0
#: A status whose limits are not the quota's was written by somebody else, and is put right after this.
STRANGE_STATUS_S = 3.0


class Quotas(Controller):
    """Writes status.used of quotas."""

    name: ClassVar[str] = "resourcequota-controller"

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._followed: dict[str, Informer] = {}
        self._quotas = self.informer(RESOURCE)
        self._quotas.subscribe(self._quota_changed)

    def _quota_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is None:
            return
        # Not when only status.used changed: admission has then counted an object that may not be in a cache here yet.
        if old is None or old["spec"] != new["spec"]:
            self.queue.add(key_of(new))
        elif not usage.same((new.get("status") or {}).get("hard") or {}, new["spec"].get("hard") or {}):
            self.queue.add_after(key_of(new), STRANGE_STATUS_S)

    def _counted(self, resource: str) -> Informer | None:
        """The objects of a resource that some quota counts; followed from the first time on. None: nothing serves it."""
        try:
            self.env.kinds.preferred(resource)
        except KeyError:
            return None
        informers = self.env.informers
        informer = informers.of(resource) if resource in WHOLE else informers.metadata_of(resource)
        if self._followed.get(resource) is not informer:
            self._followed[resource] = informer

            def changed(old: Obj | None, new: Obj | None) -> None:
                if old is None:
                    return  # admission has counted it
                if new is not None and (resource not in WHOLE or not frees(resource, old, new)):
                    return
                for quota in self._quotas.list(old["metadata"].get("namespace", "")):
                    if resource in usage.counted_resources(quota["spec"].get("hard") or {}):
                        self.queue.add(key_of(quota))

            informer.subscribe(changed)
        return informer

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        quota = self._quotas.get(name, namespace)
        if quota is None:
            return
        hard: dict[str, str] = quota["spec"].get("hard") or {}
        status = quota.get("status") or {}
        # What is used of a resource that nothing serves is not known: what is there of it stays.
        used = {name: value for name, value in (status.get("used") or {}).items() if name in hard}
        for resource in sorted(usage.counted_resources(hard)):
            informer = self._counted(resource)
            if informer is None:
                continue
            try:
                async with asyncio.timeout(SYNC_TIMEOUT_S):
                    await informer.synced.wait()
            except TimeoutError as e:
                raise ApiError(f"the {resource} that quota {key} counts are not known yet") from e
            none = dict.fromkeys(usage.concerns(resource, hard), "0")
            used |= _counted_up(quota, resource, informer.list(namespace), none)
        if usage.same(status.get("hard") or {}, hard) and usage.same(status.get("used") or {}, used):
            return
        changed = {**quota, "metadata": {**quota["metadata"]}, "status": {"hard": hard, "used": used}}
        await self.client.update(RESOURCE, changed, subresource="status")


def _counted_up(quota: Obj, resource: str, objects: Iterable[Obj], used: dict[str, str]) -> dict[str, str]:
    names = used.keys()
    for obj in objects:
        if usage.matches_scopes(quota, resource, obj):
            used = usage.added(used, usage.masked(usage.usage_of(resource, obj), names))
    return used


def frees(resource: str, old: Obj, new: Obj) -> bool:
    """The change may have lowered what the object uses.

    Nothing else may count anew: admission raises the numbers before the object is there, so that counting in between takes
    back what it just gave. A pod that is bound, say, tells of nothing but that others are being created.
    """
    if resource == "pods":
        ended = pods.is_finished(new) and not pods.is_finished(old)
        going = "deletionTimestamp" in new["metadata"] and "deletionTimestamp" not in old["metadata"]
        if ended or going or old["spec"].get("activeDeadlineSeconds") != new["spec"].get("activeDeadlineSeconds"):
            return True
    return old.get("spec") != new.get("spec") and usage.usage_of(resource, old) != usage.usage_of(resource, new)
