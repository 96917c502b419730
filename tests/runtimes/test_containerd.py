import asyncio
from collections.abc import Iterator

import pytest

from runtimes import containerd
from runtimes.interface import BackendOptions
from runtimes.suite import RuntimeSuite

pytestmark = [pytest.mark.containerd, pytest.mark.root]


class TestContainerd(RuntimeSuite):
    backend = containerd.Backend

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _ended(cls, options: BackendOptions) -> Iterator[None]:
        yield
        daemon = containerd.Backend(options).daemon
        assert daemon is not None
        asyncio.run(daemon.terminate())
