"""URLs as Go reads them."""

import pytest

from kubelite.meta import urls
from kubelite.meta.urls import Url


def test_a_url_has_parts() -> None:
    found = urls.parse("HTTPS://u:p@Example.com:80/a%20b?c=d&e#f%20g")
    assert found == Url("https", "u:p", "Example.com:80", "/a b", "c=d&e", "f g")
    assert urls.parse("//host/path") == Url(host="host", path="/path")
    assert urls.parse("mailto:a@b").scheme == "mailto"
    assert urls.parse("https://[::1]:80/").host == "[::1]:80"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://a b/", 'parse "https://a b/": invalid character " " in host name'),
        ("https://a:x/", 'parse "https://a:x/": invalid port ":x" after host'),
        ("https://[::1/", "parse \"https://[::1/\": missing ']' in host"),
        ("https://a/%zz", 'parse "https://a/%zz": invalid URL escape "%zz"'),
        (":a", 'parse ":a": missing protocol scheme'),
        ("a\nb", 'parse "a\\nb": net/url: invalid control character in URL'),
        ("a:b/c", ""),
        ("1:b/c", 'parse "1:b/c": first path segment in URL cannot contain colon'),
        ("https://a%41/", 'parse "https://a%41/": invalid URL escape "%41"'),
        ("https://a{@b/", 'parse "https://a{@b/": net/url: invalid userinfo'),
    ],
)
def test_a_text_that_is_no_url_is_told_in_gos_words(text: str, said: str) -> None:
    if not said:
        urls.parse(text)
        return
    with pytest.raises(ValueError) as caught:
        urls.parse(text)
    assert str(caught.value) == said


def test_a_request_needs_an_absolute_url_or_path() -> None:
    assert urls.parse_request_uri("/a/b").path == "/a/b"
    assert urls.parse_request_uri("https://a").host == "a"
    for text, said in (("a/b", "invalid URI for request"), ("", "empty url")):
        with pytest.raises(ValueError, match=said):
            urls.parse_request_uri(text)
