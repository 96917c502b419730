"""Cluster roles that are made of others: the rules of all that their selectors match.

Source: kubernetes pkg/controller/clusterroleaggregation, v1.34.
"""

from typing import ClassVar

from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller
from kubelite.meta import selectors
from kubelite.meta.types import Obj

RESOURCE = "clusterroles.rbac.authorization.k8s.io"


class ClusterRoleAggregation(Controller):
    """Writes the rules of roles with an aggregationRule."""

    name: ClassVar[str] = "clusterrole-aggregation-controller"
    workers: ClassVar[int] = 1

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._roles = self.informer(RESOURCE)
        self._aggregated: set[str] = set()
        self._roles.subscribe(self._changed)

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        role = new or old
        assert role is not None
        name = role["metadata"]["name"]
        if new is not None and new.get("aggregationRule"):
            self._aggregated.add(name)
        else:
            self._aggregated.discard(name)
        if old is None or new is None or _source(old) != _source(new):
            for each in self._aggregated:
                self.queue.add(each)

    async def reconcile(self, key: str) -> None:
        role = self._roles.get(key)
        if role is None or not role.get("aggregationRule"):
            return
        wanted = [selectors.from_object(s) for s in role["aggregationRule"].get("clusterRoleSelectors") or ()]
        rules: list[Obj] = []
        for other in sorted(self._roles.list(), key=lambda r: str(r["metadata"]["name"])):
            labels = other["metadata"].get("labels") or {}
            if other["metadata"]["name"] != key and any(s.matches(labels) for s in wanted):
                rules += [rule for rule in other.get("rules") or () if rule not in rules]
        if rules != (role.get("rules") or []):
            await self.client.update(RESOURCE, {**role, "metadata": {**role["metadata"]}, "rules": rules})


def _source(role: Obj) -> tuple[object, ...]:
    return role["metadata"].get("labels"), role.get("rules"), role.get("aggregationRule")
