"""One real cluster for all end-to-end tests, on containerd, with the stock kubectl."""

from collections.abc import Iterator

import pytest

from tests.e2e.machine import Machine


@pytest.fixture(scope="package")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    machine = Machine()
    failed_before = request.session.testsfailed
    try:
        machine.up()
        yield machine
    finally:
        if request.session.testsfailed > failed_before:
            print(machine.logs())
        machine.down()
