"""Documents that cost more to read than to send."""

import time

import pytest

from kubelite.meta.errors import ApiError
from kubelite.schema import decoding

SIZE = 100_000
LIMIT_S = 5.0

HOSTILE = {
    "keys within keys": "? " * SIZE,
    "lists within lists": "- " * SIZE,
    "open brackets": "[" * SIZE,
    "open braces": "{a: " * (SIZE // 4),
    "many anchors": "\n".join(f"a{n}: &a{n} x" for n in range(SIZE // 12)),
    "merge keys": "a: &a {b: c}\n" + "\n".join(f"k{n}:\n  <<: *a" for n in range(SIZE // 16)),
    "one long line of quotes": "a: " + "'" * SIZE,
    "long tags": "!" + "a" * SIZE + " b",
    "many documents": "---\n" * (SIZE // 4),
    "comments": "#\n" * (SIZE // 2),
    "growing indentation": "".join(" " * n + "a:\n" for n in range(400)),
    "digits": "a: " + "9" * SIZE,
    "digits and colons": "a: " + "1:" * (SIZE // 2),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_cve_2019_11254_no_yaml_document_takes_long(name: str) -> None:
    begin = time.process_time()
    try:
        decoding.parse(HOSTILE[name].encode(), "application/yaml")
    except ApiError as e:
        assert e.code in (400, 413)
    assert time.process_time() - begin < LIMIT_S
