"""What every test has: a call of the project's code that would block the event loop raises BlockingError.

The project's own code runs in threads where it waits for files, processes or locks. What may block nevertheless is listed here,
each with its reason. Code of tests may block its own loop.
"""

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

#: Functions, by the end of their file's name, below which a call may block.
_MAY_BLOCK = (
    # Before anybody is served: which runtimes are installed; the data directory, and the keys and the kubeconfig in it.
    ("kubelite/server/compose.py", {"of"}),
    ("kubelite/server/server.py", {"start"}),
    # The same files as tests make them; the server renews in a thread what ends.
    ("kubelite/auth/pki.py", {"load_or_create", "server_certificate"}),
    # Read once in a process, for the first request that needs it.
    ("kubelite/schema/facts.py", {"_lines"}),
    ("kubelite/schema/definitions.py", {"_raw"}),
    # A file of a few hundred bytes, kept by zoneinfo.
    ("kubelite/registry/validation/jobs.py", {"_check_zone"}),
    # /proc and /sys are memory: a thread costs more than they do.
    ("kubelite/api/metrics.py", {"_process_lines"}),
    ("runtimes/containerd/daemon.py", {"cgroup_dirs"}),
    # When containerd starts or ends: its pid file, then /proc; where its directory is; the end of its log when it failed.
    ("runtimes/containerd/daemon.py", {"pid", "__init__", "ended"}),
    # The first bytes of a file that was just written; all else of it is read in threads.
    ("runtimes/archives.py", {"opened"}),
    # gRPC ends the thread of its poller with its last channel, wherever the garbage collector comes upon that.
    ("threading.py", {"_wait_for_tstate_lock"}),
    # structlog where no server configured it: shows the source of what failed.
    ("structlog/dev.py", {"__call__"}),
    # Images that tests make.
    ("runtimes/suite.py", {"suite_image"}),
    # A simulated container's whole output: a few lines, which cost less than a thread where thousands start.
    ("runtimes/fake/backend.py", {"_write_log"}),
)


@pytest.fixture(scope="session", autouse=True)
def blocking() -> Iterator[BlockBuster]:
    """Watches kubelite and the runtimes, but not what of them is for tests."""
    excluded = ["kubelite.testing", "runtimes.suite"]
    with blockbuster_ctx(["kubelite", "runtimes"], excluded_modules=excluded) as blockbuster:
        for file, functions in _MAY_BLOCK:
            for watched in blockbuster.functions.values():
                watched.can_block_in(file, functions)
        yield blockbuster
