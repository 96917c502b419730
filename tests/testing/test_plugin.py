"""The pytest plugin, in pytest runs of their own, as a user of the package has them."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.e2e.machine import KUBECTL

pytestmark = pytest.mark.slow


def run(directory: Path, test: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs pytest on one file; warnings are errors there, so a loop or socket that stays open fails it."""
    (directory / "test_mine.py").write_text(textwrap.dedent(test))
    (directory / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    command = [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *options]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=110, check=False)


def test_a_cluster_is_there_for_stock_kubectl_and_shared_by_the_session(tmp_path):
    result = run(
        tmp_path,
        f"""
        import subprocess

        def kubectl(cluster, *words):
            command = [{str(KUBECTL)!r}, "--kubeconfig", cluster.kubeconfig, *words]
            return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

        def test_a_deployment_rolls_out(kubelite):
            kubectl(kubelite, "create", "deployment", "web", "--image=nginx", "--replicas=3")
            assert "successfully rolled out" in kubectl(kubelite, "rollout", "status", "deployment/web", "--timeout=60s")

        def test_the_next_test_finds_it_and_a_fresh_cluster_does_not(kubelite, fresh_kubelite):
            assert "deployment.apps/web" in kubectl(kubelite, "get", "deployments", "-o", "name")
            assert kubectl(fresh_kubelite, "get", "deployments", "-o", "name") == ""
            assert kubelite.server != fresh_kubelite.server
        """,
        "-s",
    )
    assert "2 passed" in result.stdout, result.stdout + result.stderr
    assert "node_" not in result.stdout + result.stderr, "the log of the server or the node"


def test_it_starts_in_about_a_second_and_writes_nothing_into_a_tests_output(tmp_path):
    result = run(
        tmp_path,
        """
        import time

        def test_quick(kubelite, capfd):
            # The processor's time, imports and pytest included: the clock's depends on what else the machine does.
            assert time.process_time() < 3
            print("mine")
            assert capfd.readouterr() == ("mine\\n", "")

        def test_a_second_one_is_quicker(kubelite):
            from kubelite.testing.cluster import running
            import pathlib, tempfile

            with tempfile.TemporaryDirectory() as directory:
                began = time.process_time()
                with running(pathlib.Path(directory)):
                    assert time.process_time() - began < 1.5
        """,
        "-s",
    )
    assert "2 passed" in result.stdout, result.stdout + result.stderr
    assert result.stderr == ""


def test_it_ends_cleanly_when_a_test_fails(tmp_path):
    result = run(
        tmp_path,
        """
        import threading
        import pytest

        def test_mine(fresh_kubelite):
            assert "kubelite" in [t.name for t in threading.enumerate()]
            assert False, "as meant"

        def test_nothing_is_left():
            assert [t for t in threading.enumerate() if not t.daemon] == [threading.main_thread()]
        """,
    )
    assert "1 failed, 1 passed" in result.stdout, result.stdout + result.stderr
    assert "as meant" in result.stdout
    assert "Traceback" not in result.stderr
    assert "part_" not in result.stdout


def test_who_uses_no_fixture_does_not_load_the_server(tmp_path):
    result = run(
        tmp_path,
        """
        import sys

        def test_mine():
            assert not {"aiohttp", "grpc", "numpy", "kubelite.server"} & set(sys.modules)
        """,
    )
    assert "1 passed" in result.stdout, result.stdout + result.stderr


def test_a_cluster_that_cannot_start_is_an_error_with_its_reason(tmp_path):
    (tmp_path / "file").write_text("x")
    result = run(
        tmp_path,
        """
        import pathlib
        import pytest
        from kubelite.testing.cluster import running

        def test_mine():
            with pytest.raises(OSError, match="file"), running(pathlib.Path("file")):
                pass
        """,
    )
    assert "1 passed" in result.stdout, result.stdout + result.stderr
