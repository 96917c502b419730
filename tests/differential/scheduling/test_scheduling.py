"""kubelite's scheduler decides in every recorded scenario as kube-scheduler 1.34.3 did: the same nodes where there is no choice
and one of the best where there is, the same scores, texts, victims and nominated nodes."""

from collections.abc import Iterator

import pytest

from tests.differential import servers
from tests.differential.scheduling import outcomes, recorded, schedulers
from tests.differential.scheduling.invention import invent
from tests.differential.scheduling.stage import Stage

pytestmark = pytest.mark.slow

_RECORDS = recorded.read()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with servers.kubelite(tmp_path_factory.mktemp("scheduling")) as server:
        yield Stage(server)


@pytest.mark.parametrize("seed", _RECORDS)
def test_the_decisions_are_the_real_ones(stage: Stage, seed: int) -> None:
    scenario, real = invent(seed), _RECORDS[seed]
    assert recorded.digest(scenario) == real.digest, "record it anew: `python -m tests.differential.scheduling record`"
    assert not [*outcomes.differences(real.account, outcomes.play(scenario, stage, schedulers.ours, real.account))]
