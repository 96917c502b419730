"""CEL expressions: compiled once, evaluated over JSON values, with the Kubernetes libraries and a bound on their cost.

Used for admission policies, match conditions of webhooks and validation rules of custom kinds. The evaluator is the
`cel` package; what its grammar lacks of what Kubernetes documents (optional selection `a.?b`, `cel.bind`, functions with a
namespace such as `sets.contains`) is rewritten to what it has.

An evaluation can't be interrupted, so its cost is bounded beforehand: the longest list, map or (where the expression takes
strings apart) string of its variables, to the power of how deep its macros nest, must stay below a budget.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

#: Iterations that one evaluation may take; each takes half a microsecond or more.
MAX_ITERATIONS = 500_000
MAX_LENGTH = 16 * 1024
_MAX_NESTING = 200

_TOKENS = re.compile(
    r"""(?P<string>[rRbB]{0,2}(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))"""
    r"""|(?P<name>[A-Za-z_]\w*)|(?P<space>\s+|//[^\n]*)|(?P<number>\d[\w.]*)|(?P<sign>\.\?|\[\?|&&|\|\||[<>=!]=|.)""",
    re.DOTALL,
)
_NAMESPACES = frozenset({"sets", "strings", "math", "base64", "lists", "format", "ip"})
_MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})
_STRING_SPLITTERS = frozenset({"split", "range", "findAll", "join", "bytes"})


class ExpressionError(Exception):
    """An expression can't be compiled or evaluated; the text says why, without the values that it was evaluated over."""


class Expression:
    """One compiled expression. Shared and never changed; get one through `compile`."""

    __slots__ = ("_depth", "_functions", "_program", "_splits", "source", "variables")

    def __init__(self, source: str) -> None:
        import cel

        from kubelite.schema import expression_functions

        # Its native part logs every failed call of a function; here a failure is an answer.
        logging.getLogger("cel").setLevel(logging.CRITICAL)
        if len(source) > MAX_LENGTH:
            raise ExpressionError(f"expression is longer than {MAX_LENGTH} characters")
        words = list(tokens(source))
        self.source = source
        self._depth = _depth(words)
        self._splits = not _STRING_SPLITTERS.isdisjoint(text for kind, text in words if kind == "name")
        text = "".join(text for _, text in _rewritten(words))
        try:
            self._program = cel.compile(text)
        except ValueError as error:
            raise ExpressionError(f"compilation failed: {_compile_text(str(error))}") from None
        self._functions = expression_functions.FUNCTIONS
        #: The names of variables that the expression looks at; those that macros bind are among them.
        self.variables = frozenset(self._program.variables())

    def evaluate(self, variables: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]] | None = None) -> Any:
        """The expression's value. Variables that it doesn't name are not converted.

        Raises:
            ExpressionError: it failed, or it would take too long.
        """
        import cel

        used = {name: value for name, value in variables.items() if name in self.variables}
        self._check_cost(used)
        try:
            return self._program.execute(cel.Context(used, {**self._functions, **functions} if functions else self._functions))
        except KeyError as error:
            raise ExpressionError(f"no such key: {error.args[0] if error.args else ''}") from None
        except IndexError as error:
            raise ExpressionError(str(error)) from None
        except ZeroDivisionError:
            raise ExpressionError("division by zero") from None
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            raise ExpressionError(_runtime_text(str(error))) from None

    def _check_cost(self, variables: Mapping[str, Any]) -> None:
        if self._depth < 2 and not self._splits:
            return
        if _longest(variables, self._splits) ** self._depth > MAX_ITERATIONS:
            raise ExpressionError("operation cancelled: actual cost limit exceeded")


@lru_cache(maxsize=4096)
def compile(source: str) -> Expression:
    """The compiled form of an expression.

    Raises:
        ExpressionError: it is no CEL.
    """
    return Expression(source)


def tokens(source: str) -> Iterator[tuple[str, str]]:
    """The words of an expression with their kinds: name, string, number, sign or space."""
    nesting = 0
    for match in _TOKENS.finditer(source):
        kind, text = match.lastgroup or "", match.group()
        nesting += (text in ("(", "[", "{", "[?")) - (text in (")", "]", "}"))
        if nesting > _MAX_NESTING:
            raise ExpressionError(f"expression nests more than {_MAX_NESTING} brackets")
        yield kind, text


def _depth(tokens: list[tuple[str, str]]) -> int:
    """How deep macros nest: 2 for `a.all(x, b.all(y, ...))`, and one more for each that follows another's result."""
    open_macros: list[bool] = []
    deepest = 0
    for number, (_, text) in enumerate(tokens):
        if text in ("(", "[", "{", "[?"):
            is_macro = text == "(" and number >= 2 and tokens[number - 1][1] in _MACROS and tokens[number - 2][1] == "."
            open_macros.append(is_macro)
            deepest = max(deepest, sum(open_macros))
        elif text in (")", "]", "}") and open_macros:
            open_macros.pop()
    return deepest


def _rewritten(tokens: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The expression in the words of the evaluator."""
    result: list[tuple[str, str]] = []
    closers: list[str] = []  # what closes each open bracket, where that is not the bracket itself
    number = 0
    while number < len(tokens):
        kind, text = tokens[number]
        if text == ".?" and number + 1 < len(tokens):
            result.append(("sign", f'.__select("{tokens[number + 1][1]}")'))
            number += 2
            continue
        if text == "[?":
            result.append(("sign", ".__select("))
            closers.append(")")
        elif kind == "name" and text in _NAMESPACES and _is_call(tokens, number) and (not result or result[-1][1] != "."):
            result.append(("name", f"__{text}_{tokens[number + 2][1]}"))
            number += 3
            continue
        elif text == "cel" and _is_call(tokens, number) and tokens[number + 2][1] == "bind":
            bound, number = _bind(tokens, number + 3)
            result += bound
            continue
        elif text in ("(", "[", "{"):
            result.append((kind, text))
            closers.append({"(": ")", "[": "]", "{": "}"}[text])
        elif text in (")", "]", "}"):
            result.append((kind, closers.pop() if closers else text))
        else:
            result.append((kind, text))
        number += 1
    return result


def _is_call(tokens: list[tuple[str, str]], number: int) -> bool:
    """Whether a name is followed by `.function(`."""
    ahead = tokens[number + 1 : number + 4]
    return len(ahead) == 3 and ahead[0][1] == "." and ahead[1][0] == "name" and ahead[2][1] == "("


def _bind(tokens: list[tuple[str, str]], number: int) -> tuple[list[tuple[str, str]], int]:
    """`(x, init, body)` of cel.bind as `[init].map(x, body)[0]`, and where it ends."""
    parts: list[list[tuple[str, str]]] = [[]]
    depth = 0
    for position in range(number, len(tokens)):
        token = tokens[position]
        if token[1] in ("(", "[", "{", "[?"):
            depth += 1
            if depth == 1:
                continue
        elif token[1] in (")", "]", "}"):
            depth -= 1
            if depth == 0:
                if len(parts) != 3:
                    break
                name, init, body = parts
                mapped = [("sign", "["), *_rewritten(init), ("sign", "].map("), *name, ("sign", ",")]
                return [*mapped, *_rewritten(body), ("sign", ")[0]")], position + 1
        elif token[1] == "," and depth == 1:
            parts.append([])
            continue
        parts[-1].append(token)
    raise ExpressionError("compilation failed: cel.bind takes a name, a value and an expression")


def _longest(value: Any, strings: bool) -> int:
    """The length of the longest list, map or string in a value."""
    longest = 1
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            longest = max(longest, len(value))
            pending.extend(value.values())
        elif isinstance(value, list | tuple):
            longest = max(longest, len(value))
            pending.extend(value)
        elif strings and isinstance(value, str):
            longest = max(longest, len(value))
    return longest


def _compile_text(text: str) -> str:
    """The parser's message, without the expression that it repeats."""
    told = text.split(": ", 1)[1] if text.startswith("Failed to parse expression") and ": " in text else text
    return told.replace("\n| ", "\n | ")


def _runtime_text(text: str) -> str:
    """The evaluator's message, without its advice."""
    found = re.match(
        r"Function '(?:__)?(\w+)' error: Python function call failed: \w+: (.*?)(?:\. Check function arguments.*)?$",
        text,
        re.DOTALL,
    )
    if found is not None:
        return found[2]
    text = re.sub(r"^Undefined variable or function: '(?:__)?(.*?)'\..*$", r"undeclared reference to '\1'", text, flags=re.DOTALL)
    return re.sub(r"\. (?:CEL does not|Check) .*$", "", text, flags=re.DOTALL)
