"""Get and list: which revision a read means, paging over one snapshot, selection.

A list without selectors is the store's own sequence of entries: nothing is parsed. The pages of one list come from one
snapshot; the snapshots of the latest paged lists are kept here (they share the store's entries), older ones are asked of the
store, and one that is compacted gives the client a token to go on without consistency.

Source: apiserver pkg/storage (continue.go, etcd3/store.go), apimachinery pkg/apis/meta/internalversion/validation, v0.34.
"""

import asyncio
import base64
import binascii
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

import orjson

from kubelite.meta import errors
from kubelite.meta.errors import Cause
from kubelite.registry import conversions, faults, selection
from kubelite.registry.contract import ListOptions, Target
from kubelite.registry.selection import Selection
from kubelite.schema.kinds import Kind
from kubelite.store.contract import Compacted, Entry, Revision, Store, StoreError

if TYPE_CHECKING:
    from kubelite.registry.registry import Registry

#: How long a read waits for a revision that is not there yet.
FRESHNESS_TIMEOUT_S = 3.0

_SNAPSHOTS = 32
_SNAPSHOT_LIFE_S = 120.0
_key_of = attrgetter("key")


@dataclass(frozen=True, slots=True)
class Page:
    """A list's answer. `remaining` is None where it is not known (selectors) or nothing remains."""

    items: Sequence[Entry]
    revision: Revision
    continue_token: str = ""
    remaining: int | None = None


def parse_revision(text: str | None) -> Revision:
    """A resourceVersion parameter as a number, 0 where it is not given.

    Raises:
        BadRequest: it is not a number.
    """
    if not text:
        return 0
    digits = text.isascii() and text.isdigit()
    value = int(text) if digits and len(text) < 40 else _TOO_LARGE
    if value >= _TOO_LARGE:
        raise errors.BadRequest(
            f'invalid resource version: resourceVersion: Invalid value: "{text}": '
            f'strconv.ParseUint: parsing "{text}": {"value out of range" if digits else "invalid syntax"}'
        )
    return value


_TOO_LARGE = 2**64


async def wait_fresh(store: Store, revision: Revision) -> None:
    """Returns once the store is at least at `revision`; gives up after FRESHNESS_TIMEOUT_S.

    Raises:
        Timeout: the revision did not come.
    """
    if revision <= store.revision:
        return
    try:
        async with asyncio.timeout(FRESHNESS_TIMEOUT_S):
            await store.wait_revision(revision)
    except TimeoutError as e:
        raise faults.too_large(revision, store.revision) from e


async def get(registry: "Registry", target: Target, resource_version: str = "") -> Entry:
    """The object in the target's version. Raises NotFound, and Timeout where the revision asked for does not come."""
    store = registry.store
    if resource_version:
        try:
            asked = parse_revision(resource_version)
        except errors.BadRequest as e:
            # a get, unlike a list, does not say whose fault it is
            raise errors.ApiError(e.message.removeprefix("invalid resource version: "), reason="", code=500) from e
        await wait_fresh(store, asked)
    kind = target.kind
    entry = store.get(kind.key(target.namespace, target.name))
    if entry is None:
        raise errors.NotFound.of(kind.group, kind.plural, target.name)
    await registry.entries.conversions.prepare(kind, (entry,))
    return registry.entries.in_version(entry, kind)


def check_list(options: ListOptions) -> None:
    """Raises Invalid for parameters of a list that exclude each other."""
    match = options.resource_version_match
    causes = []
    if match:
        if not options.resource_version:
            causes.append(
                errors.forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided")
            )
        if options.continue_token:
            causes.append(errors.forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided"))
        if match not in ("Exact", "NotOlderThan"):
            text = f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan", ""'
            causes.append(Cause("resourceVersionMatch", "FieldValueNotSupported", text))
        if match == "Exact" and options.resource_version == "0":
            causes.append(
                errors.forbidden("resourceVersionMatch", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
            )
    if options.send_initial_events is not None:
        causes.append(errors.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    raise_invalid_options(causes)


def raise_invalid_options(causes: Sequence[Cause]) -> None:
    if causes:
        raise errors.Invalid.of("meta.k8s.io", "ListOptions", "", causes)


class Lists:
    """The list verb and the snapshots that its pages share."""

    def __init__(self, registry: "Registry") -> None:
        self._registry = registry
        self._snapshots: OrderedDict[tuple[str, Revision], tuple[float, Sequence[Entry]]] = OrderedDict()

    async def page(self, target: Target, options: ListOptions) -> Page:
        """One page (all of it where no limit is given) of the target's collection, ordered by namespace and name."""
        check_list(options)
        kind = target.kind
        chosen = selection.of(kind, options.label_selector, options.field_selector)
        prefix = kind.namespace_prefix(target.namespace)
        limit = max(options.limit, 0)
        start = ""
        try:
            if options.continue_token:
                entries, revision, start = await self._continued(prefix, options)
            else:
                entries, revision = await self._snapshot(prefix, options)
        except StoreError as e:
            raise faults.of_read(e, kind, "list") from e
        first = bisect_left(entries, start, key=_key_of) if start else 0
        if self._registry.entries.conversions.needs(kind):
            items, end = await self._select_converted(kind, entries, first, chosen, limit)
        else:
            items, end = self._select(kind, entries, first, chosen, limit)
        token, remaining = "", None
        if end < len(entries):
            self._remember(prefix, revision, entries)
            token = _encode_token(items[-1].key.removeprefix(prefix) + "\0", revision)
            if chosen.is_everything:
                remaining = len(entries) - end
        if kind.custom or kind.stored_as is not None:
            items = [self._registry.entries.in_version(entry, kind) for entry in items]
        return Page(items, revision, token, remaining)

    def _select(
        self, kind: Kind, entries: Sequence[Entry], first: int, chosen: Selection, limit: int
    ) -> tuple[Sequence[Entry], int]:
        """The page's entries and the position after its last one (the length of `entries` where no more match)."""
        if chosen.is_everything:
            end = min(first + limit, len(entries)) if limit else len(entries)
            return (entries if first == 0 and end == len(entries) else entries[first:end]), end
        matches = self._registry.entries.matcher(kind, chosen)
        if not limit:
            rest = entries[first:] if first else entries
            return [entry for entry in rest if matches(entry)], len(entries)
        found: list[Entry] = []
        for position in range(first, len(entries)):
            entry = entries[position]
            if matches(entry):
                if len(found) == limit:
                    return found, position
                found.append(entry)
        return found, len(entries)

    async def _select_converted(
        self, kind: Kind, entries: Sequence[Entry], first: int, chosen: Selection, limit: int
    ) -> tuple[Sequence[Entry], int]:
        """`_select` of objects that a webhook converts: no more of them than it takes to fill the page."""
        prepare = self._registry.entries.conversions.prepare
        if chosen.is_everything:
            items, end = self._select(kind, entries, first, chosen, limit)
            await prepare(kind, items)
            return items, end
        matches = self._registry.entries.matcher(kind, chosen)
        found: list[Entry] = []
        for start in range(first, len(entries), conversions.BATCH):
            batch = entries[start : start + conversions.BATCH]
            await prepare(kind, batch)
            for position, entry in enumerate(batch, start):
                if matches(entry):
                    if limit and len(found) == limit:
                        return found, position
                    found.append(entry)
        return found, len(entries)

    async def _snapshot(self, prefix: str, options: ListOptions) -> tuple[Sequence[Entry], Revision]:
        store = self._registry.store
        asked = parse_revision(options.resource_version)
        if asked:
            await wait_fresh(store, asked)
            exact = options.resource_version_match == "Exact" or (options.limit > 0 and options.resource_version_match == "")
            if exact and asked != store.revision:
                return await store.scan_at(prefix, asked), asked
        return store.scan(prefix), store.revision

    async def _continued(self, prefix: str, options: ListOptions) -> tuple[Sequence[Entry], Revision, str]:
        store = self._registry.store
        if options.resource_version not in (None, "", "0"):
            raise errors.BadRequest("specifying resource version is not allowed when using continue")
        start, revision = _decode_token(options.continue_token, prefix)
        if revision < 0:
            return store.scan(prefix), store.revision, start
        kept = self._snapshots.get((prefix, revision))
        # who asks for the same page again and again keeps its snapshot, but not for longer than history is kept
        if kept is not None and revision > store.compacted_revision:
            self._snapshots.move_to_end((prefix, revision))
            return kept[1], revision, start
        if revision == store.revision:
            return store.scan(prefix), revision, start
        try:
            return await store.scan_at(prefix, revision), revision, start
        except Compacted as e:
            raise faults.ContinueExpired(_encode_token(start.removeprefix(prefix), -1)) from e

    def _remember(self, prefix: str, revision: Revision, entries: Sequence[Entry]) -> None:
        now = time.monotonic()
        snapshots = self._snapshots
        snapshots[prefix, revision] = (now, entries)
        snapshots.move_to_end((prefix, revision))
        while len(snapshots) > _SNAPSHOTS or next(iter(snapshots.values()))[0] < now - _SNAPSHOT_LIFE_S:
            snapshots.popitem(last=False)


def _encode_token(start: str, revision: Revision) -> str:
    token = orjson.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": start})
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def _decode_token(token: str, prefix: str) -> tuple[str, Revision]:
    """The key that the next page starts at, and the snapshot's revision (-1: whatever is there now)."""
    fault = "invalid continue token: continue key is not valid"
    try:
        decoded = orjson.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        version, revision, start = decoded["v"], decoded["rv"], decoded["start"]
    except (binascii.Error, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as e:
        raise errors.BadRequest(f"{fault}: {e}") from e
    if version != "meta.k8s.io/v1":
        raise errors.BadRequest(f"{fault}: server does not recognize this encoded version {version}")
    if not isinstance(revision, int) or revision == 0:
        raise errors.BadRequest(f"{fault}: incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    if not isinstance(start, str) or not start:
        raise errors.BadRequest(f"{fault}: encoded start key empty (version meta.k8s.io/v1)")
    if any(part in ("", ".", "..") for part in start.split("/")):
        raise errors.BadRequest(f"{fault}: {start}")
    return prefix + start, revision
