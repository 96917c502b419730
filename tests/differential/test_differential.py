"""kubelite answers every request of the corpus as Kubernetes 1.34.3 does: with the recorded answers, or with those of the
API server that the environment's KUBELITE_ORACLE names (a kubeconfig; one without controllers, which would change objects
between two requests)."""

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.differential import answers, corpus, differences, recorded, servers

pytestmark = pytest.mark.slow

_CASES = [(file, case.id) for file in corpus.files() for case in corpus.cases(file)]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], dict[str, Any]]]:
    """kubelite's answers to a file's cases."""
    with servers.kubelite(tmp_path_factory.mktemp("differential")) as server:
        yield cache(lambda file: answers.collect(server, corpus.cases(file)))


@pytest.fixture(scope="module")
def real() -> Callable[[Path], dict[str, Any]]:
    """The real answers to a file's cases."""
    oracle = os.environ.get("KUBELITE_ORACLE")
    if not oracle:
        return cache(recorded.read)
    server = servers.Server(Path(oracle))
    return cache(lambda file: answers.collect(server, corpus.cases(file)))


@pytest.mark.parametrize(("file", "case"), _CASES, ids=[case for _, case in _CASES])
def test_the_answer_is_the_real_one(
    file: Path, case: str, ours: Callable[[Path], dict[str, Any]], real: Callable[[Path], dict[str, Any]]
) -> None:
    there = real(file)
    assert case in there, "not recorded: run `python -m tests.differential record` with KUBELITE_ORACLE set"
    assert not differences.found(case, there[case], ours(file)[case], differences.accepted())


def test_every_accepted_difference_has_a_case_and_a_reason() -> None:
    for row in differences.accepted():
        assert row.why
        assert any(row.covers(case, row.at[0] if row.at else "") for _, case in _CASES), row.cases
