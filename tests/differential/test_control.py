"""kubelite's controllers make of every script what the real controller manager 1.34.3 made of it, working on the same API.

Record anew with `python -m tests.differential control --record`.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.differential import differences, recorded, servers
from tests.differential.control import runner, scripts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_SCRIPTS = [(file, script.id) for file in scripts.files() for script in scripts.read(file)]


@pytest.fixture(scope="module")
def ours(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What kubelite makes of the scripts that are to be tested, all played at once: they mostly wait."""
    asked = {item.callspec.params["script"] for item in request.session.items if item.originalname == _COMPARES}
    wanted = [script for file in scripts.files() for script in scripts.read(file) if script.id in asked]
    with servers.controlled(tmp_path_factory.mktemp("control")) as kubeconfig:
        return runner.play_all(kubeconfig, wanted)


_COMPARES = "test_the_controllers_do_what_the_real_ones_do"


@pytest.mark.parametrize(("file", "script"), _SCRIPTS, ids=[script for _, script in _SCRIPTS])
def test_the_controllers_do_what_the_real_ones_do(file: Path, script: str, ours: dict[str, Any]) -> None:
    there = recorded.read(file, recorded.CONTROLLED)
    assert script in there, "not recorded: run `python -m tests.differential control --record`"
    assert not differences.found(script, there[script], ours[script], differences.accepted("controlled"))


def test_every_accepted_difference_of_controllers_has_a_script_and_a_reason() -> None:
    for row in differences.accepted("controlled"):
        assert row.why
        assert any(row.covers(script, row.at[0] if row.at else "") for _, script in _SCRIPTS), row.cases
