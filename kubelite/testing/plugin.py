"""The pytest plugin: a real cluster as a fixture.

`kubelite` is one cluster for the whole test session, `fresh_kubelite` one for a single test. Each is a whole control plane with
a simulated node, in a thread of the test process, on ports and in a directory of its own.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kubelite.testing.cluster import Cluster


@pytest.fixture(scope="session")
def kubelite(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Cluster]":
    """One cluster that all tests of the session share: its `kubeconfig` is a path, its `server` a URL."""
    from kubelite.testing.cluster import running  # loads the server only for those who use it

    with running(tmp_path_factory.mktemp("kubelite")) as cluster:
        yield cluster


@pytest.fixture
def fresh_kubelite(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Cluster]":
    """An empty cluster of the test's own."""
    from kubelite.testing.cluster import running

    with running(tmp_path_factory.mktemp("kubelite")) as cluster:
        yield cluster
