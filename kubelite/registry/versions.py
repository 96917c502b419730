"""The versions of one kind, for the managers who set fields by another version than a write has.

Some conversions ask a webhook, which the pure functions that need them can't wait for: they raise Unconverted, the conversion is
done, and they are called again.
"""

from collections.abc import Callable
from typing import TypeVar

import orjson

from kubelite.meta.types import Obj
from kubelite.registry.entries import Entries
from kubelite.schema.kinds import Kind, Kinds
from kubelite.schema.structure import Structure, structure_of

T = TypeVar("T")


class Unconverted(Exception):
    """An object is needed in a version that only a webhook can make."""

    def __init__(self, obj: Obj, to: Kind) -> None:
        super().__init__()
        self.obj, self.to = obj, to


class OfKind:
    """See managed.Versions. Lives as long as one write."""

    def __init__(self, kinds: Kinds, entries: Entries, kind: Kind) -> None:
        self._kinds, self._entries, self._kind = kinds, entries, kind
        self._converted: dict[tuple[str, bytes], Obj] = {}

    def structure(self, api_version: str) -> Structure | None:
        kind = self._row(api_version)
        return structure_of(kind) if kind is not None else None

    def convert(self, obj: Obj, api_version: str) -> Obj:
        """Raises Unconverted."""
        given = obj.get("apiVersion", "")
        source, to = self._row(given), self._row(api_version)
        if given == api_version or source is None or to is None:
            return obj
        if not self._entries.conversions.needs(to):
            return self._entries.convert(obj, source, to)
        found = self._converted.get((api_version, orjson.dumps(obj)))
        if found is None:
            raise Unconverted(obj, to)
        return found

    def _row(self, api_version: str) -> Kind | None:
        if api_version == self._kind.api_version:
            return self._kind
        group, _, version = api_version.rpartition("/")
        row = self._kinds.resource(group, version, self._kind.plural)
        stored = self._entries.storage_kind
        return row if row is not None and stored(row) is stored(self._kind) else None

    async def settled(self, step: Callable[[], T]) -> T:
        """The result of a step, which is done again while it lacks conversions.

        Raises:
            ApiError: a webhook can't be asked, or refuses.
        """
        while True:
            try:
                return step()
            except Unconverted as e:
                (made,) = await self._entries.conversions.convert(e.to, [e.obj], e.to.api_version)
                self._converted[e.to.api_version, orjson.dumps(e.obj)] = made
