"""When a node is under pressure: signals, and the thresholds below which they mean it. Pure, and cheap to import: settings are
checked with it.

Source: pkg/kubelet/eviction (api/types.go, helpers.go parseThresholdStatement, defaults_linux.go), v1.34.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kubelite.meta import quantities


@dataclass(frozen=True, slots=True)
class Signal:
    """What a signal tells of: the resource that is short, as messages name it, and the node condition that it is then in."""

    resource: str
    condition: str


#: In the order in which they are acted on: memory first, since the kernel does not wait.
SIGNALS: Mapping[str, Signal] = {
    "memory.available": Signal("memory", "MemoryPressure"),
    "nodefs.available": Signal("ephemeral-storage", "DiskPressure"),
    "nodefs.inodesFree": Signal("inodes", "DiskPressure"),
    "imagefs.available": Signal("ephemeral-storage", "DiskPressure"),
    "imagefs.inodesFree": Signal("inodes", "DiskPressure"),
    "pid.available": Signal("pids", "PIDPressure"),
}
DEFAULT_HARD = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%"


@dataclass(frozen=True, slots=True)
class Observation:
    """How a signal stands: what is left, and of how much."""

    available: int
    capacity: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """A signal's lowest value: a quantity (`100Mi`), or the share of the capacity (0.1) where that is empty."""

    signal: str
    quantity: str = ""
    share: float = 0.0

    @property
    def about(self) -> Signal:
        return SIGNALS[self.signal]

    def least(self, capacity: int) -> int:
        return quantities.value(self.quantity) if self.quantity else int(capacity * self.share)

    def text(self, capacity: int) -> str:
        """`least` as messages have it."""
        return quantities.canonical(self.quantity) if self.quantity else quantities.format_bytes(self.least(capacity))


def parse(text: str) -> tuple[Threshold, ...]:
    """The thresholds of `memory.available<100Mi,nodefs.available<10%`, in the order of SIGNALS; of an empty text none.

    Raises:
        ValueError: what is wrong and what is allowed.
    """
    found: dict[str, Threshold | None] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        signal, less, value = (p.strip() for p in part.partition("<"))
        if not less or not value:
            raise ValueError(f"{part!r} is no threshold; give SIGNAL<QUANTITY or SIGNAL<PERCENT%, such as memory.available<1Gi")
        if signal not in SIGNALS:
            raise ValueError(f"unknown signal {signal!r}; known are {', '.join(SIGNALS)}")
        found[signal] = _threshold(signal, value)
    return tuple(threshold for signal in SIGNALS if (threshold := found.get(signal)) is not None)


def _threshold(signal: str, value: str) -> Threshold | None:
    """None: one that never holds, as 0% and 100% are taken."""
    if value.endswith("%"):
        try:
            percent = float(value[:-1])
        except ValueError:
            percent = math.nan
        if not 0 <= percent <= 100:
            raise ValueError(f"{signal}<{value}: a percentage is between 0% and 100%")
        return Threshold(signal, share=percent / 100) if 0 < percent < 100 else None
    if not quantities.is_quantity(value) or quantities.parse(value) <= 0:
        raise ValueError(f"{signal}<{value}: give a quantity above zero, such as 100Mi, or a percentage, such as 10%")
    return Threshold(signal, quantity=value)


def met(thresholds: Iterable[Threshold], observed: Mapping[str, Observation]) -> list[Threshold]:
    """The thresholds that signals are below now. A signal that can't be observed is below none."""
    return [t for t in thresholds if (o := observed.get(t.signal)) is not None and o.available < t.least(o.capacity)]
