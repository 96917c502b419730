"""When a node is under pressure."""

import pytest

from kubelite.agent import thresholds
from kubelite.agent.thresholds import Observation, Threshold

GI = 1 << 30


def test_thresholds_are_quantities_and_shares_in_the_order_of_their_urgency() -> None:
    text = " nodefs.available < 12.5%,memory.available<1.5Gi ,,pid.available<0%,imagefs.available<100%"
    assert thresholds.parse(text) == (Threshold("memory.available", "1.5Gi"), Threshold("nodefs.available", share=0.125))
    assert thresholds.parse("") == ()


def test_the_defaults_are_the_kubelets() -> None:
    found = {t.signal: t.quantity or t.share for t in thresholds.parse(thresholds.DEFAULT_HARD)}
    shares = {"nodefs.available": 0.1, "nodefs.inodesFree": 0.05, "imagefs.available": 0.15, "imagefs.inodesFree": 0.05}
    assert found == {"memory.available": "100Mi", **shares}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("memory.available", "'memory.available' is no threshold; give SIGNAL<QUANTITY or SIGNAL<PERCENT%"),
        ("memory.available<", "is no threshold"),
        ("memory<1Gi", "unknown signal 'memory'; known are memory.available, nodefs.available"),
        ("memory.available<much", "memory.available<much: give a quantity above zero, such as 100Mi, or a percentage"),
        ("memory.available<0", "give a quantity above zero"),
        ("memory.available<-1Gi", "give a quantity above zero"),
        ("nodefs.available<-1%", "nodefs.available<-1%: a percentage is between 0% and 100%"),
        ("nodefs.available<101%", "between 0% and 100%"),
        ("nodefs.available<x%", "between 0% and 100%"),
    ],
)
def test_what_is_no_threshold_is_explained(text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        thresholds.parse(text)
    assert said in str(caught.value)


def test_a_threshold_is_met_below_it_and_by_what_can_be_observed_alone() -> None:
    memory, disk = parsed = thresholds.parse("memory.available<1Gi,nodefs.available<10%")
    assert thresholds.met(parsed, {}) == []
    assert thresholds.met(parsed, {"memory.available": Observation(GI, 4 * GI)}) == []
    assert thresholds.met(parsed, {"memory.available": Observation(GI - 1, 4 * GI)}) == [memory]
    assert thresholds.met(parsed, {"nodefs.available": Observation(10, 100), "nodefs.inodesFree": Observation(0, 100)}) == []
    assert thresholds.met(parsed, {"nodefs.available": Observation(9, 100)}) == [disk]


def test_a_share_is_told_as_the_bytes_that_it_is() -> None:
    memory, disk = thresholds.parse("memory.available<1024Mi,nodefs.available<25%")
    assert (memory.text(9 * GI), disk.text(4 * GI)) == ("1Gi", "1Gi")
