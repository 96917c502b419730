import time
from typing import Any

import pytest

from kubelite.schema import expressions

OBJECT: dict[str, Any] = {
    "metadata": {"name": "web", "labels": {"a/b": "c"}},
    "spec": {"replicas": 3, "names": ["ab", "ac"], "empty": None},
}


def evaluate(source: str, **variables: Any) -> Any:
    return expressions.compile(source).evaluate({"object": OBJECT, **variables})


@pytest.mark.parametrize(
    "source",
    [
        "object.spec.replicas <= 5",
        "!has(object.spec.missing)",
        'object.metadata.labels["a/b"] == "c"',
        'object.spec.names.all(n, n.startsWith("a"))',
        "object.spec.?missing.orValue(7) == 7",
        "object.?spec.?replicas.orValue(7) == 3",
        'object.metadata.labels[?"a/b"].orValue("") == "c"',
        "!object.spec.names[?5].hasValue()",
        "cel.bind(n, object.spec.names.size(), n * n == 4)",
        "cel.bind(x, [1, 2], x.map(y, cel.bind(z, y + 1, z))) == [2, 3]",
        "sets.contains([1, 2], [2]) && sets.intersects([1], [1, 2]) && sets.equivalent([1, 1], [1])",
        "[1, 2, 3].sum() == 6 && [3, 1].min() == 1 && [1, 2].isSorted() && [1, 2].indexOf(2) == 1",
        '"a,b,c".split(",").size() == 3 && ["a", "b"].join("-") == "a-b" && " x ".trim() == "x"',
        '"abc".substring(1) == "bc" && "abc".charAt(1) == "b" && "aBc".upperAscii() == "ABC" && "x".replace("x", "y") == "y"',
        '"%s has %d and %.2f".format(["a", 3, 1.5]) == "a has 3 and 1.50"',
        'quantity("1Gi").isGreaterThan(quantity("1023Mi")) && quantity("1Gi") == quantity("1024Mi")',
        'quantity("1").add(quantity("500m")).compareTo(quantity("1.5")) == 0 && !isQuantity("x")',
        'isURL("https://a.example:80/p?q=1") && url("https://a.example:80/p?q=1").getHostname() == "a.example"',
        'url("https://a.example:80/p?q=1").getQuery() == {"q": ["1"]} && !isURL("not a url")',
        'ip("10.0.0.1").family() == 4 && cidr("10.0.0.0/8").containsIP("10.1.2.3") && ip.isCanonical("::1")',
        'cidr("10.0.0.0/8").containsCIDR("10.1.0.0/16") && !isIP("1.2.3") && cidr("10.0.0.0/8").prefixLength() == 8',
        'semver("1.2.3").isLessThan(semver("1.10.0")) && semver("1.0.0-rc.1").isLessThan(semver("1.0.0")) && !isSemver("v1")',
        '!format.dns1123Label().validate("fine").hasValue() && format.named("dns1123Label").value().validate("Bad").hasValue()',
        'duration("1h") > duration("59m") && timestamp("2024-01-01T00:00:00Z") < timestamp("2025-01-01T00:00:00Z")',
        '"a.?b" == "a" + ".?b"',
        "object.spec.empty == null",
    ],
)
def test_what_kubernetes_documents_is_true(source: str) -> None:
    assert evaluate(source) is True


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("object.spec.missing == 1", "no such key: missing"),
        ("1 / 0 == 1", "division by zero"),
        ("[1][3] == 1", "index out of bounds"),
        ("unknown(1)", "undeclared reference to 'unknown'"),
        ('quantity("x") == quantity("1")', "quantities must match"),
    ],
)
def test_a_failure_says_why(source: str, text: str) -> None:
    with pytest.raises(expressions.ExpressionError, match=text):
        evaluate(source)


def test_what_is_no_cel_is_refused_when_compiled() -> None:
    for source in ("object.spec ==", "a b", "(" * 1000, "x" * 20_000):
        with pytest.raises(expressions.ExpressionError):
            expressions.compile(source)


def test_an_expression_that_would_take_too_long_is_refused_at_once() -> None:
    items = list(range(2000))
    start = time.process_time()
    with pytest.raises(expressions.ExpressionError, match="cost limit exceeded"):
        evaluate("items.all(a, items.all(b, items.all(c, a + b + c >= 0)))", items=items)
    with pytest.raises(expressions.ExpressionError, match="cost limit exceeded"):
        evaluate('text.split("").all(a, text.split("").all(b, a == b))', text="x" * 100_000)
    assert time.process_time() - start < 0.5
    assert evaluate("items.all(a, a >= 0)", items=items) is True


def test_only_the_variables_that_are_named_are_looked_at() -> None:
    assert evaluate("object.spec.replicas == 3", other=object()) is True
    assert "object" in expressions.compile("object.spec.replicas == 3").variables
