"""Regular expressions as Go has them: checked in the words of Go's parser, matched in time that grows with the text alone.

The patterns come from who defines a kind and the texts from everybody who may create its objects, so they are not matched by
Python's engine, which can take exponential time. They are translated for the one that comes with the CEL evaluator.

Source: Go's regexp/syntax/parse.go (go1.24), with the flags of regexp.Compile.
"""

import re
from functools import lru_cache
from typing import NoReturn

_MOST_REPEATS = 1000
_REPEAT = re.compile(r"\{(0|[1-9][0-9]*)(,(0|[1-9][0-9]*)?)?\}", re.ASCII)
_CLASSES = {
    "d": "[0-9]",
    "s": r"[\t\n\x0c\r\x20]",
    "w": "[0-9A-Za-z_]",
    "D": "[^0-9]",
    "S": r"[^\t\n\x0c\r\x20]",
    "W": "[^0-9A-Za-z_]",
}
_POSIX = re.compile(r"\[:(\^?)(\w*):\]")
_POSIX_NAMES = frozenset(
    ("alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word", "xdigit")
)
_LETTERS = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}


def fault(pattern: str) -> str:
    """What is wrong with a pattern, an empty text where nothing is."""
    try:
        _run(_translated(pattern), "")
    except _PatternError as e:
        return str(e)
    except ValueError:
        return f"expression too large: `{pattern}`"
    return ""


def matches(pattern: str, text: str) -> bool:
    """Whether a part of the text fits the pattern; true where the pattern can't be used, as it then refuses nothing."""
    try:
        return _run(_translated(pattern), text) if len(text) > _REMEMBERED else _remembered(pattern, text)
    except ValueError:
        return True


#: The longest text whose answer is kept: most texts are met again, in the next update of their object.
_REMEMBERED = 256


@lru_cache(maxsize=8192)
def _remembered(pattern: str, text: str) -> bool:
    return _run(_translated(pattern), text)


def _run(translated: str, text: str) -> bool:
    """
    Raises:
        ValueError: the engine can't use the pattern: it names a class that is none, or needs too much space.
    """
    try:
        return bool(_program().execute({"text": text, "pattern": translated}))
    except RuntimeError as e:
        raise ValueError("the pattern can't be used") from e


@lru_cache(maxsize=1)
def _program():  # type: ignore[no-untyped-def]
    import cel  # not every server ever has a pattern

    return cel.compile("text.matches(pattern)")


class _PatternError(ValueError):
    """The text is what Go's parser says."""


@lru_cache(maxsize=2048)
def _translated(pattern: str) -> str:
    return _Parser(pattern).parse()


class _Group:
    """An open group: whether there is something that can be repeated, how often that and the most repeated of all are."""

    def __init__(self) -> None:
        self.has_atom = False
        self.last = self.most = 1

    def add(self, repeats: int = 1) -> None:
        self.has_atom, self.last = True, repeats
        self.most = max(self.most, repeats)


class _Parser:
    """Reads a pattern from left to right, and writes what it means in the other engine's syntax."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._out: list[str] = []
        self._groups = [_Group()]

    def parse(self) -> str:
        repeated_from = -1  # where the repetition starts that was read last
        while self._at < len(self._source):
            start, letter = self._at, self._source[self._at]
            is_repetition = False
            if letter in "*+?":
                is_repetition = self._repetition(letter, 1, repeated_from)
            elif letter == "{" and (found := _REPEAT.match(self._source, start)):
                is_repetition = self._counted(found, repeated_from)
            elif letter == "(":
                self._open()
            elif letter == ")":
                self._close()
            elif letter == "|":
                self._take("|")
                self._groups[-1].has_atom = False
            else:
                self._atom(letter)
            repeated_from = start if is_repetition else -1
        if len(self._groups) > 1:
            raise _PatternError(f"missing closing ): `{self._source}`")
        return "".join(self._out)

    def _fail(self, code: str, start: int, end: int | None = None) -> NoReturn:
        raise _PatternError(f"{code}: `{self._source[start : self._at if end is None else end]}`")

    def _take(self, written: str, length: int = 1) -> None:
        self._out.append(written)
        self._at += length

    def _atom(self, letter: str) -> None:
        if letter == "[":
            self._class()
        elif letter == "\\":
            self._escaped()
        else:
            self._take(letter if letter in "^$." else _literal(letter))
        self._groups[-1].add()

    def _repetition(self, operator: str, repeats: int, repeated_from: int) -> bool:
        start, group = self._at, self._groups[-1]
        self._take(operator, len(operator))
        if self._source[self._at : self._at + 1] == "?":
            self._take("?")
        if repeated_from >= 0:
            self._fail("invalid nested repetition operator", repeated_from)
        if not group.has_atom:
            self._fail("missing argument to repetition operator", start)
        if group.last * repeats > _MOST_REPEATS:
            self._fail("invalid repeat count", start)
        group.add(group.last * repeats)
        return True

    def _counted(self, found: re.Match[str], repeated_from: int) -> bool:
        least = int(found[1])
        most = int(found[3]) if found[3] else least
        if max(least, most) > _MOST_REPEATS or least > most:
            self._fail("invalid repeat count", self._at, found.end())
        return self._repetition(found[0], max(most, 1), repeated_from)

    def _open(self) -> None:
        if not self._source.startswith("(?", self._at):
            self._take("(")
            self._groups.append(_Group())
            return
        start = self._at
        name = re.compile(r"\(\?P?<([^>]*)(>?)").match(self._source, start)
        if name is not None:
            if not name[2]:
                self._fail("invalid named capture", start, len(self._source))
            if not re.fullmatch(r"\w+", name[1], re.ASCII):
                self._fail("invalid named capture", start, name.end())
            self._take("(", name.end() - start)
            self._groups.append(_Group())
            return
        flags = re.compile(r"\(\?([imsU]*(?:-[imsU]+)?)([:)])").match(self._source, start)
        if flags is None:
            read = re.compile(r"\(\?[imsU]*(?:-[imsU]*)?.?", re.DOTALL).match(self._source, start)
            self._fail("invalid or unsupported Perl syntax", start, read.end() if read else None)
        if flags[2] == ":":
            self._groups.append(_Group())
        self._take(flags[0] if flags[1] or flags[2] == ":" else "", len(flags[0]))

    def _close(self) -> None:
        if len(self._groups) == 1:
            raise _PatternError(f"unexpected ): `{self._source}`")
        self._take(")")
        self._groups[-2].add(self._groups.pop().most)

    def _escaped(self) -> None:
        follows = self._source[self._at + 1 : self._at + 2]
        if follows and follows in "ABz":
            self._take(f"\\{follows}", 2)
        elif follows == "b":
            self._take(r"(?-u:\b)", 2)  # words are of ASCII letters
        elif follows == "C":
            self._fail("invalid escape sequence", self._at, self._at + 2)
        elif follows == "Q":
            quoted, _, _ = self._source[self._at + 2 :].partition(r"\E")
            self._take("".join(map(_literal, quoted)), 2 + len(quoted) + 2)
        elif not self._named_class():
            self._out.append(_literal(self._character()))

    def _named_class(self) -> bool:
        r"""Reads `\d` and the like and `\pN`, if there is one."""
        follows = self._source[self._at + 1 : self._at + 2]
        if self._source[self._at] != "\\" or not follows:
            return False
        if follows in _CLASSES:
            self._take(_CLASSES[follows], 2)
            return True
        if follows not in "pP" or len(self._source) == self._at + 2:
            return False
        found = re.compile(r"\\[pP](?:\{(\^?)([^}]*)\}|([^{]))", re.DOTALL).match(self._source, self._at)
        if found is None:
            self._fail("invalid character class range", self._at, len(self._source))
        negated = (follows == "P") != bool(found[1])
        written = f"\\{'P' if negated else 'p'}{{{found[2] or found[3] or ''}}}"
        try:
            _run(written, "")
        except ValueError:
            self._fail("invalid character class range", self._at, found.end())
        self._take(written, len(found[0]))
        return True

    def _class(self) -> None:
        start = self._at
        self._take("[")
        if self._source.startswith("^", self._at):
            self._take("^")
        first = True  # a ] in the first place is one of the class
        while first or not self._source.startswith("]", self._at):
            first = False
            if self._at >= len(self._source):
                self._fail("missing closing ]", start)
            posix = _POSIX.match(self._source, self._at)
            if posix is not None:
                if posix[2] not in _POSIX_NAMES:
                    self._fail("invalid character class range", self._at, posix.end())
                self._take(posix[0], len(posix[0]))
            elif not self._named_class():
                self._range(start)
        self._take("]")

    def _range(self, class_start: int) -> None:
        start = self._at
        low = high = self._class_character(class_start)
        if self._source.startswith("-", self._at) and self._source[self._at + 1 : self._at + 2] not in ("]", ""):
            self._at += 1
            high = self._class_character(class_start)
            if high < low:
                self._fail("invalid character class range", start)
        self._out.append(_literal(low) if low == high else f"{_literal(low)}-{_literal(high)}")

    def _class_character(self, class_start: int) -> str:
        if self._at >= len(self._source):
            self._fail("missing closing ]", class_start)
        if self._source[self._at] == "\\":
            return self._character()
        self._at += 1
        return self._source[self._at - 1]

    def _character(self) -> str:
        """Reads an escape that stands for one character."""
        start = self._at
        found = _ESCAPE.match(self._source, start)
        if found is None:
            if len(self._source) == start + 1:
                raise _PatternError("trailing backslash at end of expression: ``")
            self._fail("invalid escape sequence", start, _WRONG_ESCAPE.match(self._source, start).end())  # type: ignore[union-attr]
        self._at = found.end()
        octal, digits, long_digits, letter, itself = found.groups()
        if itself:
            return itself
        code = int(octal, 8) if octal else _LETTERS[letter] if letter else int(digits or long_digits, 16)
        if code > 0x10FFFF:
            self._fail("invalid escape sequence", start)
        return chr(code)


_ESCAPE = re.compile(
    r"\\(?:(0[0-7]{0,2}|[1-7][0-7]{1,2})|x([0-9A-Fa-f]{2})|x\{([0-9A-Fa-f]+)\}|([afnrtv])|([^0-9A-Za-z\x80-\U0010ffff]))"
)
_WRONG_ESCAPE = re.compile(r"\\(?:x\{[0-9A-Fa-f]*.?|x.{0,2}|.)", re.DOTALL)


def _literal(letter: str) -> str:
    """A character that stands for itself, inside of a class too."""
    return letter if letter.isalnum() or not letter.isascii() else f"\\x{{{ord(letter):x}}}"
