"""One real cluster for all end-to-end tests, on containerd, with the stock kubectl."""

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.machine import Machine

LOCK = Path("/run/kubelite-e2e.lock")


@pytest.fixture(scope="package")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs on one machine would have the same nodes and networks
        machine = Machine()
        failed_before = request.session.testsfailed
        try:
            machine.up()
            yield machine
        finally:
            if request.session.testsfailed > failed_before:
                print(machine.logs())
            machine.down()
