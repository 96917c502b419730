"""Pods' cgroups on both versions, on a directory that looks like the kernel's."""

from pathlib import Path

import pytest

from kubelite.agent.cgroups import Cgroups
from kubelite.meta.types import Obj
from tests.agent.pods import container, pod


def limited() -> Obj:
    return pod(container("c", resources={"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}))


def test_without_a_parent_or_a_tree_there_are_no_cgroups(tmp_path: Path) -> None:
    for made in (Cgroups("", tmp_path), Cgroups("kubepods", tmp_path / "none"), Cgroups("kubepods", tmp_path)):
        made.start()
        assert made.version == 0
        assert made.ensure(limited()) == ""


@pytest.fixture
def first(tmp_path: Path) -> Path:
    for name in ("cpu", "memory", "cpuset"):
        (tmp_path / name).mkdir()
    (tmp_path / "cpuset" / "cpuset.cpus").write_text("0-1")
    (tmp_path / "cpuset" / "cpuset.mems").write_text("0")
    return tmp_path


def test_a_pods_cgroup_lies_below_its_class_and_is_removed_with_all_below_it(tmp_path: Path, first: Path) -> None:
    made = Cgroups("kubepods", first)
    # A real kernel makes these files with the directory.
    for path in ("kubepods", "kubepods/burstable", "kubepods/besteffort", "kubepods/burstable/podu1"):
        directory = first / "cpuset" / path
        directory.mkdir()
        for name in ("cpuset.cpus", "cpuset.mems"):
            (directory / name).write_text("")
    made.start()
    assert made.version == 1
    assert made.ensure(limited()) == "/kubepods/burstable/podu1"
    assert (first / "cpu/kubepods/burstable/podu1").is_dir()
    (first / "cpu/kubepods/burstable/podu1/container").mkdir()
    made.remove("u1")
    assert not (first / "cpu/kubepods/burstable/podu1").exists()
    assert not (first / "memory/kubepods/burstable/podu1").exists()


def test_limits_are_written_where_the_kernel_has_files_for_them(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    target = tmp_path / "kubepods/burstable/podu1"
    target.mkdir(parents=True)
    for directory in (tmp_path, tmp_path / "kubepods", tmp_path / "kubepods/burstable"):
        (directory / "cgroup.subtree_control").write_text("")
        (directory / "cgroup.controllers").write_text("cpu memory")
    for name in ("cpu.max", "cpu.weight", "memory.max"):
        (target / name).write_text("")
    made = Cgroups("kubepods", tmp_path)
    made.start()
    assert made.version == 2
    made.ensure(limited())
    found = {name: (target / name).read_text() for name in ("cpu.max", "cpu.weight", "memory.max")}
    assert found == {"cpu.max": "50000 100000", "cpu.weight": "10", "memory.max": str(64 << 20)}


def test_a_pods_processes_are_counted_where_they_can_be(tmp_path: Path) -> None:
    made = Cgroups("kubepods", tmp_path)
    (tmp_path / "cgroup.controllers").write_text("pids")
    for directory in (tmp_path, tmp_path / "kubepods"):
        directory.mkdir(exist_ok=True)
        (directory / "cgroup.subtree_control").write_text("")
        (directory / "cgroup.controllers").write_text("pids")
    made.start()
    assert made.processes_of(limited()) == 0
    target = tmp_path / "kubepods/burstable/podu1"
    target.mkdir(parents=True)
    (target / "pids.current").write_text("7\n")
    assert made.processes_of(limited()) == 7
