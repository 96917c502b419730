"""FlowSchemas: whether the priority level is there that they name.

Source: apiserver pkg/util/flowcontrol/apf_controller.go, v0.34.
"""

from typing import ClassVar

from kubelite.controllers import conditions
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller
from kubelite.meta import times
from kubelite.meta.types import Obj

RESOURCE = "flowschemas.flowcontrol.apiserver.k8s.io"
LEVELS = "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io"


class FlowSchemas(Controller):
    """Writes the Dangling condition."""

    name: ClassVar[str] = "flow-schema-status-controller"
    workers: ClassVar[int] = 1

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._schemas = self.informer(RESOURCE)
        self._levels = self.informer(LEVELS)
        self.follow(self._schemas)
        self.follow(self._levels, self._naming)

    def _naming(self, level: Obj) -> list[str]:
        """The schemas that name a level."""
        name = level["metadata"]["name"]
        return [each["metadata"]["name"] for each in self._schemas.list() if _level(each) == name]

    async def reconcile(self, key: str) -> None:
        found = self._schemas.get(key)
        if found is None:
            return
        level = _level(found)
        here = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}"'
        if self._levels.get(level) is None:
            wanted = conditions.make("Dangling", "True", times.now(), "NotFound", f"{here} but there is no such object")
        else:
            wanted = conditions.make("Dangling", "False", times.now(), "Found", f"{here} and it exists")
        listed = (found.get("status") or {}).get("conditions")
        changed = conditions.put(listed, wanted, moved=("status", "reason", "message"))
        if changed != listed:
            obj = {**found, "metadata": {**found["metadata"]}, "status": {**(found.get("status") or {}), "conditions": changed}}
            await self.client.update(RESOURCE, obj, subresource="status")


def _level(schema: Obj) -> str:
    return str(schema["spec"]["priorityLevelConfiguration"]["name"])
