"""The store against a dict: any order of writes, batches, restarts, compactions and watches gives what the model says."""

import asyncio
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, precondition, rule

from kubelite.store.contract import Compacted, Conflict, Event, KeyExists, KeyNotFound, Revision, Watch
from kubelite.store.sqlite import SqliteStore

KEYS = st.sampled_from(["/pods/a/x", "/pods/a/y", "/pods/b/x", "/pods.x/a/x", "/nodes/x"])
PREFIXES = st.sampled_from(["/", "/pods/", "/pods/a/", "/nodes/", "/none/"])
#: Create, update and delete; whether the write names the right revision; how many bytes.
WRITES = st.lists(st.tuples(st.sampled_from("cud"), KEYS, st.booleans(), st.integers(0, 50)), min_size=1, max_size=8)

State = dict[str, tuple[Revision, Revision, bytes]]


class StoreMachine(RuleBasedStateMachine):
    watches = Bundle("watches")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        #: The state after each revision, and what happened at it: the model.
        self.states: dict[Revision, State] = {1: {}}
        self.history: dict[Revision, tuple[str, str, bytes, bytes | None]] = {}
        self.revision = 1
        self.compacted = 0

    @initialize(ring_bytes=st.sampled_from([0, 200, 1 << 20]))
    def begin(self, ring_bytes: int) -> None:
        self.ring_bytes = ring_bytes
        self.open()

    def open(self) -> None:
        self.store = SqliteStore(Path(self.directory.name) / "store.db", ring_bytes=self.ring_bytes)
        self.runner.run(self.store.start())

    def teardown(self) -> None:
        self.runner.run(self.store.stop())
        self.runner.close()
        self.directory.cleanup()

    @rule(writes=WRITES)
    def write(self, writes: list[tuple[str, str, bool, int]]) -> None:
        """All of them in flight at once, so they share commits and build on one another."""

        async def run() -> None:
            pending = []
            for verb, key, right, size in writes:
                call, change = self.expect(verb, key, right, b"v" * size)
                if isinstance(change, type):
                    try:
                        call()
                        raise AssertionError(f"{verb} {key} should raise {change}")
                    except change:
                        continue
                pending.append((call(), *change))
            for result, key, created, value in pending:
                entry = await result
                assert (entry.key, entry.create_revision, entry.value) == (key, created, value)

        self.runner.run(run())

    def expect(self, verb, key, right, value):  # type: ignore[no-untyped-def]
        """The call to make and what the model says of it: an error's class, or the entry's parts."""
        state = dict(self.states[self.revision])
        old = state.get(key)
        expected = (old[0] if old else 1) + (0 if right else 1000)
        next_revision = self.revision + 1
        content = value + str(next_revision).encode()

        def encode(revision: Revision) -> bytes:
            return value + str(revision).encode()

        if verb == "c":
            call = lambda: self.store.create(key, encode)  # noqa: E731
            if old:
                return call, KeyExists
            state[key] = (next_revision, next_revision, content)
        else:
            write = self.store.update if verb == "u" else self.store.delete
            call = lambda: write(key, encode, expected)  # noqa: E731
            if not old:
                return call, KeyNotFound
            if not right:
                return call, Conflict
            state[key] = (next_revision, old[1], content)
        created = state[key][1]
        if verb == "d":
            del state[key]
        self.revision = next_revision
        self.states[next_revision] = state
        self.history[next_revision] = (verb, key, content, old[2] if old else None)
        return call, (key, created, content)

    @rule()
    def restart(self) -> None:
        self.runner.run(self.store.stop())
        self.open()

    @rule(back=st.integers(0, 10))
    def compact(self, back: int) -> None:
        revision = max(self.compacted, self.revision - back)
        self.runner.run(self.store.compact(revision))
        self.compacted = revision

    @rule(target=watches, prefix=PREFIXES, back=st.integers(0, 30))
    def watch(self, prefix: str, back: int):  # type: ignore[no-untyped-def]
        after = max(1, self.revision - back)
        if after < self.compacted:
            try:
                self.store.watch(prefix, after)
                raise AssertionError("a compacted revision was watched")
            except Compacted:
                return multiple()
        return (prefix, after, self.store, self.store.watch(prefix, after))

    @rule(target=watches, held=consumes(watches))
    def read(self, held: tuple[str, Revision, SqliteStore, Watch]):  # type: ignore[no-untyped-def]
        """Reads a watch to the end; one of a store that was stopped resumes at its position on the new one."""
        prefix, after, store, watch = held
        if store is not self.store:
            after = watch.position if watch.position <= self.revision else after
            if after < self.compacted:
                return multiple()
            watch = self.store.watch(prefix, after)
        expected = [
            (revision, *self.history[revision])
            for revision in range(after + 1, self.revision + 1)
            if self.history[revision][1].startswith(prefix)
        ]

        async def drain() -> list[Event] | None:
            events: list[Event] = []
            while len(events) < len(expected):
                try:
                    events += await asyncio.wait_for(watch.next_batch(), 5)
                except Compacted:
                    return None
            return events

        events = self.runner.run(drain())
        if events is None:
            assert after < self.compacted
            return multiple()
        got = [
            (
                e.revision,
                "d" if e.deleted else "u" if e.previous else "c",
                e.entry.key,
                e.entry.value,
                e.previous.value if e.previous else None,
            )
            for e in events
        ]
        assert got == expected
        return (prefix, self.revision, self.store, watch)

    @rule(prefix=PREFIXES, back=st.integers(0, 10))
    def scan_at(self, prefix: str, back: int) -> None:
        revision = max(1, self.revision - back)
        try:
            entries = self.runner.run(self.store.scan_at(prefix, revision))
        except Compacted:
            assert revision < self.compacted
            return
        assert revision >= self.compacted
        assert {e.key: (e.revision, e.create_revision, e.value) for e in entries} == {
            key: value for key, value in self.states[revision].items() if key.startswith(prefix)
        }
        assert [e.key for e in entries] == sorted(e.key for e in entries)

    @precondition(lambda self: hasattr(self, "store"))
    @invariant()
    def state_is_the_models(self) -> None:
        state = self.states[self.revision]
        assert self.store.revision == self.revision
        assert self.store.compacted_revision == self.compacted
        assert {e.key: (e.revision, e.create_revision, e.value) for e in self.store.scan("/")} == state
        assert self.store.count("/pods/") == sum(key.startswith("/pods/") for key in state)
        statistics = self.store.statistics()
        assert (statistics["keys"], statistics["bytes"]) == (len(state), sum(len(value) for _, _, value in state.values()))


StoreMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
import pytest  # noqa: E402

TestStoreAgainstADict = pytest.mark.slow(StoreMachine.TestCase)
