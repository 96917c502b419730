"""The chain: every plugin in its order, for each request only those that care about it.

Which plugins care about an operation on a kind is worked out once and kept in a table, so that a write that no plugin
cares about costs one look into a dict. Plugins of the mutating pass return the object, changed or not; when a webhook
changed it, the built-in plugins see it once more, as do webhooks that ask for that (reinvocationPolicy IfNeeded).
"""

from collections.abc import Iterable
from typing import Protocol, TypeAlias, runtime_checkable

from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind

_KEPT_PLANS = 4096


class Plugin(Protocol):
    """What every plugin has. `handles` is asked once for each operation, kind and subresource, and must not depend on
    anything that changes."""

    name: str

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool: ...


@runtime_checkable
class Mutator(Plugin, Protocol):
    async def admit(self, attributes: Attributes) -> Obj | None:
        """The object as the plugin wants it: the very same one when nothing is changed. Raises ApiError to refuse."""
        ...


@runtime_checkable
class Validator(Plugin, Protocol):
    async def validate(self, attributes: Attributes) -> None:
        """Raises ApiError to refuse."""
        ...


@runtime_checkable
class Webhooks(Mutator, Protocol):
    """The plugin that calls mutating webhooks."""

    async def admit_again(self, attributes: Attributes, before: Obj | None) -> Obj | None:
        """The second round, for webhooks that want to see what others changed after them."""
        ...


_Plan: TypeAlias = tuple[tuple[Mutator, ...], tuple[Validator, ...], Webhooks | None]


class Chain:
    """Implements registry.contract.Admission over plugins in the order given."""

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self.plugins = tuple(plugins)
        self._plans: dict[tuple[Operation, Kind, str], _Plan] = {}

    async def mutate(self, attributes: Attributes) -> Obj | None:
        target = attributes.target
        plan = self._plans.get((attributes.operation, target.kind, target.subresource))
        if plan is None:
            plan = self._plan(attributes)
        after_webhooks: Obj | None = None
        for plugin in plan[0]:
            obj = await plugin.admit(attributes)
            if obj is not attributes.obj:
                attributes = with_object(attributes, obj)
                if plugin is plan[2]:
                    after_webhooks = obj
        if after_webhooks is None or plan[2] is None:
            return attributes.obj
        for plugin in plan[0]:
            if plugin is plan[2]:
                obj = await plan[2].admit_again(attributes, after_webhooks)
            else:
                obj = await plugin.admit(attributes)
            if obj is not attributes.obj:
                attributes = with_object(attributes, obj)
        return attributes.obj

    async def validate(self, attributes: Attributes) -> None:
        target = attributes.target
        plan = self._plans.get((attributes.operation, target.kind, target.subresource))
        if plan is None:
            plan = self._plan(attributes)
        for plugin in plan[1]:
            await plugin.validate(attributes)

    def _plan(self, attributes: Attributes) -> _Plan:
        key = attributes.operation, attributes.target.kind, attributes.target.subresource
        concerned = [plugin for plugin in self.plugins if plugin.handles(*key)]
        mutators = tuple(p for p in concerned if isinstance(p, Mutator))
        validators = tuple(p for p in concerned if isinstance(p, Validator))
        if len(self._plans) >= _KEPT_PLANS:
            self._plans.clear()  # custom kinds come and go
        webhooks = next((p for p in mutators if isinstance(p, Webhooks)), None)
        plan = self._plans[key] = (mutators, validators, webhooks)
        return plan


def with_object(attributes: Attributes, obj: Obj | None) -> Attributes:
    """The same request about a changed object."""
    return Attributes(
        attributes.operation,
        attributes.target,
        obj,
        attributes.old,
        attributes.user,
        attributes.dry_run,
        attributes.options,
        attributes.body_kind,
        attributes.warnings,
    )
