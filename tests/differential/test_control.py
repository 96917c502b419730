"""kubelite's controllers make of every script what the real controller manager 1.34.3 made of it, working on the same API.

Record anew with `python -m tests.differential control --record`.
"""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.differential import differences, recorded, servers
from tests.differential.control import runner, scripts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_SCRIPTS = [(file, script.id) for file in scripts.files() for script in scripts.read(file)]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], dict[str, Any]]]:
    """What kubelite makes of a file's scripts."""
    with servers.controlled(tmp_path_factory.mktemp("control")) as kubeconfig:
        yield cache(lambda file: runner.play_all(kubeconfig, scripts.read(file)))


@pytest.mark.parametrize(("file", "script"), _SCRIPTS, ids=[script for _, script in _SCRIPTS])
def test_the_controllers_do_what_the_real_ones_do(file: Path, script: str, ours: Callable[[Path], dict[str, Any]]) -> None:
    there = recorded.read(file, recorded.CONTROLLED)
    assert script in there, "not recorded: run `python -m tests.differential control --record`"
    assert not differences.found(script, there[script], ours(file)[script], differences.accepted("controlled"))


def test_every_accepted_difference_of_controllers_has_a_script_and_a_reason() -> None:
    for row in differences.accepted("controlled"):
        assert row.why
        assert any(row.covers(script, row.at[0] if row.at else "") for _, script in _SCRIPTS), row.cases
