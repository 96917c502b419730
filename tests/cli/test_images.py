"""`kubelite image` on a machine where no kubelite runs: containerd comes and goes with the command, the images stay."""

from pathlib import Path

import pytest

from runtimes.containerd.daemon import Daemon
from runtimes.interface import BackendOptions
from runtimes.suite import IMAGE, suite_image
from tests.cli.test_commands import kubelite

pytestmark = [pytest.mark.containerd, pytest.mark.root, pytest.mark.slow]


def test_images_are_imported_and_listed_without_a_daemon_staying_behind(tmp_path: Path) -> None:
    daemon = Daemon(BackendOptions(f"{tmp_path}/d/node/runtime"))
    good, bad = tmp_path / "good.tar", tmp_path / "bad.tar"
    good.write_bytes(suite_image())
    bad.write_bytes(b"nonsense" * 1000)
    try:
        result = kubelite("image", "import", str(good), "--data-dir", f"{tmp_path}/d")
        assert (result.returncode, result.stdout, result.stderr) == (0, f"{IMAGE}\n", "")
        assert daemon.pid() == 0
        result = kubelite("image", "import", str(bad), "--data-dir", f"{tmp_path}/d")
        assert result.returncode == 1
        assert f"kubelite: {bad}: the image archive cannot be read" in result.stderr
        assert result.stderr.count("\n") == 1
        assert IMAGE in kubelite("image", "list", "--data-dir", f"{tmp_path}/d").stdout
    finally:
        assert kubelite("reset", "--yes", "--data-dir", f"{tmp_path}/d").returncode == 0
    assert daemon.pid() == 0
    assert not daemon.run_dir.exists()
    assert not (tmp_path / "d").exists()
