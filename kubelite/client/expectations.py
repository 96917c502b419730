"""Expectations: what a controller has asked for and not yet seen, so that it does not ask twice.

A controller that creates or deletes by a count reads its informer's cache, which lags behind its own writes. It sets what it
expects before the writes, lowers it in the informer's handlers, and leaves a key alone while something is outstanding.
Expectations expire, since an event may have been merged away or a write may have failed silently.

Source: kubernetes pkg/controller/controller_utils.go, v1.34 (the five minutes).
"""

import time
from collections.abc import Callable, Iterable

TIMEOUT_S = 300.0


class Expectations:
    """Outstanding creations (a count) and deletions (the uids) for each key."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._creations: dict[str, int] = {}
        self._deletions: dict[str, set[str]] = {}
        self._since: dict[str, float] = {}

    def expect(self, key: str, creations: int = 0, deletions: Iterable[str] = ()) -> None:
        """So many creations and the deletion of these uids will be seen; replaces what was expected before."""
        self.forget(key)
        if creations > 0:
            self._creations[key] = creations
        if uids := set(deletions):
            self._deletions[key] = uids
        self._since[key] = self._clock()

    def expect_creations(self, key: str, count: int) -> None:
        """`count` creations will be seen; replaces what was expected before."""
        self.expect(key, creations=count)

    def expect_deletions(self, key: str, uids: Iterable[str]) -> None:
        """The deletion of these uids will be seen; replaces what was expected before."""
        self.expect(key, deletions=uids)

    def creation_observed(self, key: str) -> None:
        """A creation was seen, or turned out not to happen."""
        left = self._creations.get(key, 0) - 1
        if left > 0:
            self._creations[key] = left
        else:
            self._creations.pop(key, None)

    def deletion_observed(self, key: str, uid: str) -> None:
        """A deletion was seen (its beginning counts), or turned out not to happen."""
        uids = self._deletions.get(key)
        if uids is not None:
            uids.discard(uid)
            if not uids:
                del self._deletions[key]

    def is_satisfied(self, key: str) -> bool:
        """Nothing is outstanding, or it has been for too long."""
        if key not in self._creations and key not in self._deletions:
            return True
        return self._clock() - self._since.get(key, 0.0) > TIMEOUT_S

    def forget(self, key: str) -> None:
        """The key's object is gone."""
        self._creations.pop(key, None)
        self._deletions.pop(key, None)
        self._since.pop(key, None)
