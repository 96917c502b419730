"""What a controller wrote last, for controllers that must not act on a cache that lacks their own write.

Most need not care: a write on an old state fails with a conflict, and a create of a name that exists fails too. Those that
create objects of new names by what their status says do need it.
"""

from kubelite.controllers.reconciler import key_of
from kubelite.meta.types import Obj


class Written:
    """The newest written states, kept until the cache has them."""

    def __init__(self) -> None:
        self._states: dict[str, Obj] = {}

    def note(self, obj: Obj) -> Obj:
        """Remembers a write's result; returns it."""
        self._states[key_of(obj)] = obj
        return obj

    def newest(self, cached: Obj) -> Obj:
        """The cached object, or what was written after it."""
        key = key_of(cached)
        state = self._states.get(key)
        # Revisions are opaque to clients by rule, but ordered numbers wherever they are stored; this relies on it.
        if (
            state is not None
            and state["metadata"]["uid"] == cached["metadata"]["uid"]
            and int(state["metadata"]["resourceVersion"]) > int(cached["metadata"]["resourceVersion"])
        ):
            return state
        self._states.pop(key, None)
        return cached

    def forget(self, key: str) -> None:
        """The object is gone."""
        self._states.pop(key, None)
