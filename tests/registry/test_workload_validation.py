"""What is wrong with what runs pods is said with its field and its cause."""

from collections.abc import Callable
from typing import Any

import pytest

from kubelite.meta.errors import BadRequest, Cause
from kubelite.meta.types import Obj
from kubelite.registry.strategies.workloads import TEMPLATE_GENERATION, DaemonSetStrategy
from kubelite.registry.validation import jobs, jobstatuses, pods, workloads

#: More digits than Python reads as a number.
DIGITS = "9" * 5000


def rolling(**shares: str) -> Obj:
    return {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": shares}}}


def indexed(indexes: str) -> Obj:
    policy = {"rules": [{"succeededIndexes": indexes}]}
    return {"metadata": {"name": "j"}, "spec": {"completionMode": "Indexed", "completions": 3, "successPolicy": policy}}


def costing(cost: str) -> Obj:
    return {"metadata": {"annotations": {pods.DELETION_COST: cost}}, "spec": {}}


@pytest.mark.parametrize(
    ("check", "obj", "field"),
    [
        (workloads.check_deployment, rolling(maxUnavailable=f"{DIGITS}%"), "spec.strategy.rollingUpdate.maxUnavailable"),
        (jobs.check_job, indexed(f"1,{DIGITS}"), "spec.successPolicy.rules[0].succeededIndexes"),
        (pods.check_pod, costing(DIGITS), f"metadata.annotations[{pods.DELETION_COST}]"),
        (pods.check_pod, costing(f"-{DIGITS}"), f"metadata.annotations[{pods.DELETION_COST}]"),
    ],
)
def test_a_number_without_end_is_a_fault_of_its_field(check: Callable[[Obj], list[Cause]], obj: Obj, field: str) -> None:
    assert field in [cause.field for cause in check(obj)]


def test_a_daemon_sets_generation_without_end_is_a_bad_request() -> None:
    with pytest.raises(BadRequest):
        DaemonSetStrategy().normalize({"metadata": {"annotations": {TEMPLATE_GENERATION: DIGITS}}, "spec": {}})


def job(spec: Any = None, **status: Any) -> Obj:
    return {"metadata": {"name": "j"}, "spec": spec or {"completions": 5, "parallelism": 1}, "status": status}


def test_what_is_wrong_with_a_jobs_status_already_does_not_keep_it_from_being_written() -> None:
    was = job(active=1, ready=2)
    assert jobstatuses.check_update(job(active=1, ready=2, failed=1), was) == []
    assert [str(cause) for cause in jobstatuses.check_update(job(active=1, ready=3), was)] == [
        "status.ready: Invalid value: 3: cannot set more ready pods than active"
    ]


def test_indexes_are_done_once() -> None:
    spec = {"completionMode": "Indexed", "completions": 9, "parallelism": 1, "backoffLimitPerIndex": 1}
    now = job(spec, completedIndexes="0-3,5", failedIndexes="4,5-6")
    assert [str(cause) for cause in jobstatuses.check_update(now, job(spec))] == [
        'status.failedIndexes: Invalid value: "4,5-6": failedIndexes and completedIndexes overlap at index: 5'
    ]
