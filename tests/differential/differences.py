"""What differs between two answers, and which differences are accepted, with the reason for each (`accepted.yaml`; of what
controllers do `controlled.yaml`)."""

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_ABSENT = object()


@dataclass(frozen=True)
class Accepted:
    """A difference that stays: in the cases that a pattern names, at the paths that start with one of `at`."""

    cases: str
    at: tuple[str, ...]
    why: str

    def covers(self, case: str, path: str) -> bool:
        return fnmatch.fnmatchcase(case, self.cases) and (not self.at or path.startswith(self.at))


@cache
def accepted(of: str = "accepted") -> list[Accepted]:
    rows = yaml.safe_load(Path(__file__).with_name(f"{of}.yaml").read_text()) or []
    return [Accepted(row["cases"].replace("[", "[[]"), tuple(row.get("at") or ()), row["why"]) for row in rows]


def found(case: str, real: Any, ours: Any, allowed: Sequence[Accepted] = ()) -> list[str]:
    """The differences that nothing covers, a line each."""
    return [
        f"{path}: {_shown(there)} there, {_shown(here)} here"
        for path, there, here in _walk("", real, ours)
        if not any(row.covers(case, path) for row in allowed)
    ]


def _walk(path: str, real: Any, ours: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(real, Mapping) and isinstance(ours, Mapping):
        for key in sorted(real.keys() | ours.keys()):
            below = f"{path}.{key}" if path else key
            yield from _walk(below, real.get(key, _ABSENT), ours.get(key, _ABSENT))
    elif isinstance(real, list) and isinstance(ours, list) and len(real) == len(ours):
        for index, pair in enumerate(zip(real, ours, strict=True)):
            yield from _walk(f"{path}[{index}]", *pair)
    elif real != ours or type(real) is not type(ours):
        yield path, real, ours


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else repr(value)
