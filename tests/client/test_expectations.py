from kubelite.client.expectations import TIMEOUT_S, Expectations


def test_creations_are_outstanding_until_each_was_seen() -> None:
    expectations = Expectations()
    expectations.expect_creations("a", 2)
    assert not expectations.is_satisfied("a")
    expectations.creation_observed("a")
    assert not expectations.is_satisfied("a")
    expectations.creation_observed("a")
    assert expectations.is_satisfied("a")
    expectations.creation_observed("a")
    assert expectations.is_satisfied("a")


def test_a_deletion_counts_once_however_often_it_is_seen() -> None:
    expectations = Expectations()
    expectations.expect_deletions("a", ["x", "y"])
    expectations.deletion_observed("a", "x")
    expectations.deletion_observed("a", "x")
    assert not expectations.is_satisfied("a")
    expectations.deletion_observed("a", "y")
    assert expectations.is_satisfied("a")


def test_expectations_expire() -> None:
    now = 0.0
    expectations = Expectations(lambda: now)
    expectations.expect_creations("a", 1)
    now = TIMEOUT_S + 1
    assert expectations.is_satisfied("a")
