"""Texts of a format: good ones and bad ones, as a real server takes them."""

import pytest

from kubelite.registry.validation import formats

_GOOD = {
    "uri": ["http://a", "/a", "a:b", "mailto:x@y", "//a", "http://[::1]:80/x", "*", "http://a/é"],
    "email": ["a@b", "A <a@b.c>", '"a b"@c', "a@[1.2.3.4]", " a@b "],
    "hostname": ["a", "A-b.com", "a-", "é.com", "1"],
    "ipv4": ["1.2.3.4", "01.2.3.4", "::ffff:1.2.3.4"],
    "ipv6": ["::1", "::ffff:1.2.3.4", "1:2:3:4:5:6:7:8"],
    "cidr": ["1.2.3.0/24", "1.2.3.4/24", "::/0", "01.2.3.4/8", "1.2.3.4/08"],
    "mac": ["01:23:45:67:89:ab", "01-23-45-67-89-ab", "0123.4567.89ab", "01:23:45:67:89:ab:cd:ef", "0123456789ab"],
    "uuid": ["12345678-1234-1234-1234-123456789abc", "12345678123412341234123456789ABC"],
    "uuid3": ["12345678-1234-3234-1234-123456789abc"],
    "uuid4": ["12345678-1234-4234-8234-123456789abc"],
    "uuid5": ["12345678-1234-5234-a234-123456789abc"],
    "isbn": ["0321751043", "978-0321751041", "978 0321751041"],
    "isbn10": ["0321751043", "080442957X"],
    "isbn13": ["978-0321751041"],
    "creditcard": ["4111111111111111", "4111-1111-1111-1111", "x4111111111111111"],
    "ssn": ["123-45-6789", "123 45 6789"],
    "hexcolor": ["#FFFFFF", "fff"],
    "rgbcolor": ["rgb(255,255,255)", "rgb( 1 , 2 , 3 )"],
    "byte": ["eA=="],
    "password": ["x", ""],
    "date": ["2020-01-02"],
    "duration": ["1s", "1h2m", "2 weeks", "1.5h", "2 d", "1week", "-1s", "2 ms", "1h 2 x"],
    "date-time": [
        "2020-01-02T03:04:05Z",
        "2020-01-02t03:04:05z",
        "2020-01-02T03:04:05+01:00",
        "2020-01-02T03:04:05.123Z",
        "2020-01-02T03:04:05,1Z",
    ],
    "bsonobjectid": ["507f1f77bcf86cd799439011", "507F1F77BCF86CD799439011"],
}
_BAD = {
    "uri": ["a", "", "http://a b", "http://a:b", "http://a/%zz", "#a"],
    "email": ["a", "a@", "@b", "a b@c", "a@b.c.", "a..b@c", "a@b,c@d"],
    "hostname": [
        "a.b",
        "-a",
        "a_b",
        "a.b.c1",
        "a.com.",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "1.2.3.4",
        "a..b",
        "",
    ],
    "ipv4": ["1.2.3", "1.2.3.4.5", "::1", "256.1.1.1", "1.2.3.4/8", ""],
    "ipv6": ["1.2.3.4", "fe80::1%eth0", "x"],
    "cidr": ["1.2.3.4", "1.2.3.4/33", "::1/129"],
    "mac": ["01:23-45:67:89:ab", "01:23:45:67:89"],
    "uuid": ["x", "12345678-1234-1234-1234-123456789ab"],
    "uuid3": ["12345678-1234-4234-1234-123456789abc"],
    "uuid4": ["12345678-1234-4234-1234-123456789abc"],
    "uuid5": ["12345678-1234-5234-1234-123456789abc"],
    "isbn": ["0321751044"],
    "isbn10": ["978-0321751041"],
    "isbn13": ["9780321751042", "0321751043"],
    "creditcard": ["4111111111111112"],
    "ssn": ["123456789", "12-345-6789"],
    "hexcolor": ["#ff", "ggg"],
    "rgbcolor": ["rgb(256,0,0)", "rgb(1,2)"],
    "byte": ["x", "", "eA", "e A=", "eA==\n", "_-=="],
    "date": ["2020-13-02", "2020-1-2", "20200102", "", "2020-02-30"],
    "duration": ["x", "5", "3 foo days", "1 wek", ""],
    "date-time": ["2020-01-02T03:04:05", "2020-01-02T24:04:05Z", "2020-01-02 03:04:05Z", "", "2020-01-02T03:04:60Z"],
    "bsonobjectid": ["507f1f77bcf86cd79943901"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in _GOOD.items() for text in texts])
def test_a_text_has_its_format(name: str, text: str) -> None:
    assert formats.fits(formats.known(name), text)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in _BAD.items() for text in texts])
def test_a_text_has_not_its_format(name: str, text: str) -> None:
    assert not formats.fits(formats.known(name), text)


def test_formats_of_numbers_and_of_other_programs_mean_nothing() -> None:
    assert [formats.known(name) for name in ("int32", "k8s-short-name", "foo", "", None)] == [""] * 5
