"""Paths of volumes that a container controls, and volumes that run what a user chose."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kubelite.agent.faults import ConfigFault
from kubelite.agent.volumes import subpaths
from kubelite.meta.errors import Cause
from kubelite.meta.types import Obj
from kubelite.registry.validation import jobs, pods, workloads


@pytest.mark.parametrize("name", ["link", "link/passwd", "deep/link/passwd", "up/outside", "chain"])
def test_cve_2017_1002101_a_sub_path_does_not_leave_its_volume_through_a_link(tmp_path: Path, name: str) -> None:
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    (volume / "deep").mkdir(parents=True)
    outside.mkdir()
    (outside / "passwd").write_text("secret")
    (volume / "link").symlink_to(outside)
    (volume / "deep" / "link").symlink_to("../../outside")
    (volume / "up").symlink_to("..")
    (volume / "chain").symlink_to("link")
    with pytest.raises(OSError):
        subpaths.prepare(volume, name, tmp_path / "target")
    with pytest.raises(ConfigFault):
        subpaths.check("../outside")


def test_cve_2021_25741_what_was_checked_is_what_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container exchanges a directory for a link between the check and the opening."""
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    (volume / "a" / "b").mkdir(parents=True)
    (outside / "b").mkdir(parents=True)
    opening, exchanged = os.open, []

    def open_late(path: str | Path, flags: int, *, dir_fd: int | None = None) -> int:
        if path == "a" and not exchanged:
            exchanged.append(path)
            (volume / "a").rename(volume / "was")
            (volume / "a").symlink_to(outside)
        return opening(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", open_late)
    with pytest.raises(OSError):
        subpaths.prepare(volume, "a/b", tmp_path / "target")
    assert exchanged


REPOSITORY = {"name": "v", "gitRepo": {"repository": "/local/hooks", "directory": "."}}
SPEC = {"containers": [{"name": "c", "image": "i"}], "volumes": [REPOSITORY]}
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": SPEC}


@pytest.mark.parametrize(
    ("check", "obj"),
    [
        (pods.check_pod, {"spec": SPEC}),
        (workloads.check_deployment, {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}}),
        (workloads.check_daemon_set, {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}}),
        (workloads.check_replication_controller, {"spec": {"selector": {"a": "b"}, "template": TEMPLATE}}),
        (jobs.check_cron_job, {"spec": {"jobTemplate": {"spec": {"template": TEMPLATE}}}}),
    ],
)
def test_cve_2025_1767_no_kind_takes_a_repository_as_a_volume(check: Callable[[Obj], list[Cause]], obj: Obj) -> None:
    causes = check({"metadata": {"name": "x", "uid": "u"}, **obj})
    assert any("gitRepo" in cause.field and "not supported" in cause.message for cause in causes)
