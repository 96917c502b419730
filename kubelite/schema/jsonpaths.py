"""JSONPaths as the columns of custom kinds have them: fields, items, slices, unions, filters, everything below.

Source: client-go util/jsonpath (parser.go, jsonpath.go), v0.34, where keys may be missing.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

#: From the values found so far to the next ones. Raises ValueError where they have not the form for it.
Step: TypeAlias = Callable[[list[Any]], list[Any]]

_FIELD = re.compile(r"(?:\\.|[^\\\s.,\[\]$@{}])*", re.DOTALL)
_KEY = re.compile(r"'([^']*)'")
_SLICE = re.compile(r"(-?\d*)(:-?\d*)?(:-?\d*)?")
_COMPARISON = re.compile(r"([^!<>=]+)([!<>=]+)(.+)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_WORD = re.compile(r"\w+")
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compile(text: str) -> Callable[[Any], list[Any]]:
    """A reader of what a path finds in a value; the reader raises ValueError where the value has not the form for the path.

    Raises:
        ValueError: it is no path.
    """
    steps = list(_Parser(text).steps())
    return lambda value: _walk(steps, [value])


def _walk(steps: list[Step], found: list[Any]) -> list[Any]:
    for step in steps:
        found = step(found)
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def steps(self) -> Iterator[Step]:
        while self._at < len(self._text):
            letter = self._text[self._at]
            if self._takes("[?("):
                yield self._filter()
            elif self._takes(".."):
                yield _below
                if self._text[self._at : self._at + 1].isalnum():
                    yield self._field()
            elif self._takes("."):
                yield self._field()
            elif self._takes("["):
                yield from self._brackets()
            elif letter in " @$":
                self._at += 1
            elif letter in "'\"":
                yield self._quoted(letter)
            else:
                yield self._word()

    def _takes(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._at += len(sign)
        return True

    def _matched(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ValueError(f"unrecognized character in {self._text!r} at {self._at}")
        self._at = match.end()
        return match.group()

    def _until(self, sign: str) -> str:
        end = self._text.find(sign, self._at)
        if end < 0:
            raise ValueError(f"{self._text!r} lacks a {sign!r}")
        text, self._at = self._text[self._at : end], end + len(sign)
        return text

    def _field(self) -> Step:
        name = self._matched(_FIELD)
        return _every if name == "*" else _field(name.replace("\\", ""))

    def _quoted(self, quote: str) -> Step:
        self._at += 1
        return _constant(self._until(quote))

    def _word(self) -> Step:
        if self._text[self._at] in "+-0123456789":
            number = self._matched(_NUMBER)
            return _constant(float(number) if "." in number else int(number))
        word = self._matched(_WORD)
        if word not in ("true", "false"):
            raise ValueError(f"unrecognized identifier {word}")
        return _constant(word == "true")

    def _brackets(self) -> Iterator[Step]:
        text = self._until("]")
        parts = text.split(",")
        if len(parts) > 1:
            yield _union([list(_Parser(f"[{part.strip(' ')}]").steps()) for part in parts])
        elif key := _KEY.fullmatch(text):
            yield from _Parser(f".{key[1]}").steps()
        elif bounds := _SLICE.fullmatch(":" if text == "*" else text):
            yield _slice(*(None if part is None else part.removeprefix(":") for part in bounds.groups()))
        else:
            raise ValueError(f"invalid array index {text}")

    def _filter(self) -> Step:
        text = self._until(")]")
        compared = _COMPARISON.fullmatch(text)
        if compared is None:
            wanted = list(_Parser(text).steps())
            return _filter(lambda item: bool(_walk(wanted, [item])))
        left, right = (list(_Parser(side).steps()) for side in (compared[1], compared[3]))
        sign = compared[2]

        def holds(item: Any) -> bool:
            sides = [_walk(side, [item]) for side in (left, right)]
            if any(len(side) > 1 for side in sides):
                raise ValueError("can only compare one element at a time")
            if sign not in _OPERATORS:
                raise ValueError(f"unrecognized filter operator {sign}")
            return all(sides) and _OPERATORS[sign](*_comparable(sides[0][0], sides[1][0]))

        return _filter(holds)


def _comparable(left: Any, right: Any) -> tuple[Any, Any]:
    if type(left) is not type(right) or not isinstance(left, str | bool | int | float):
        raise ValueError("incompatible types for comparison")
    return left, right


def _constant(value: Any) -> Step:
    return lambda found: [value]


def _field(name: str) -> Step:
    return lambda found: [value[name] for value in found if isinstance(value, Mapping) and name in value]


def _inner(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else []


def _every(found: list[Any]) -> list[Any]:
    return [item for value in found for item in _inner(value)]


def _below(found: list[Any]) -> list[Any]:
    """The values that hold others, and all such below them."""
    made: list[Any] = []
    for value in found:
        inner = _inner(value)
        if inner:
            made += (value, *_below(inner))
    return made


def _union(paths: list[list[Step]]) -> Step:
    return lambda found: [item for steps in paths for item in _walk(steps, found)]


def _lists(found: list[Any]) -> Iterator[list[Any]]:
    for value in found:
        if isinstance(value, list):
            yield value
        elif value is not None:
            raise ValueError("it is no array")


def _filter(holds: Callable[[Any], bool]) -> Step:
    return lambda found: [item for value in _lists(found) for item in value if holds(item)]


def _slice(first: str | None, last: str | None, step: str | None) -> Step:
    """`[first:last:step]`; a `last` that is not there at all takes one item alone."""

    def read(found: list[Any]) -> list[Any]:
        made: list[Any] = []
        for value in _lists(found):
            start = int(first or 0)
            end = start + 1 if last is None else int(last) if last else len(value)
            start += len(value) if start < 0 else 0
            end += len(value) if end < 0 or (end == 0 and last is None) else 0
            if start == end:
                return made
            if not (0 <= start < len(value) and start < end <= len(value)):
                raise ValueError("array index out of bounds")
            stride = int(step) if step else 1
            if stride <= 0:
                raise ValueError("step must be > 0")
            made += value[start:end:stride]
        return made

    return read
