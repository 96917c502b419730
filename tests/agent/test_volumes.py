"""Volumes: what they hold, who may read it, how they change, and that nobody gets out of them."""

import base64
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubelite.agent.faults import ConfigFault
from kubelite.agent.objects import Objects
from kubelite.agent.tokens import Tokens
from kubelite.agent.volumes import atomic, ownership, subpaths
from kubelite.agent.volumes.atomic import File
from kubelite.agent.volumes.payloads import Sources
from kubelite.agent.volumes.volumes import Volumes
from kubelite.meta.types import Obj
from tests.agent.pods import container, pod

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")


class Node:
    """Volumes over objects that a test sets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.objects = Objects()
        self.asked: list[Obj] = []
        self.volumes = Volumes(path / "pods", Sources(self.objects, Tokens(self._token), ("192.0.2.7",), {"cpu": "4"}))

    async def _token(self, namespace: str, account: str, request: Obj) -> Obj:
        self.asked.append(request)
        return {"status": {"token": f"{account}-{len(self.asked)}", "expirationTimestamp": "2100-01-01T00:00:00Z"}}

    def set(self, resource: str, name: str, **fields: Any) -> None:
        meta = {"name": name, "namespace": "default", "resourceVersion": str(id(fields))}
        self.objects.changed(resource, {"metadata": meta, **fields})

    async def prepare(self, volume: Obj, **spec: Any) -> Path:
        made = await self.volumes.prepare(pod(volumes=[{"name": "v", **volume}], **spec))
        return made["v"].path


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    await made.volumes.start()
    yield made
    await made.volumes.unmount()


def names(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir() if not entry.name.startswith("..")}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_config_map_becomes_files_and_follows_its_changes(node: Node) -> None:
    node.set("configmaps", "m", data={"a": "1", "b": "2"}, binaryData={"c": base64.b64encode(b"\xff").decode()})
    path = await node.prepare({"configMap": {"name": "m"}})
    assert names(path) == {"a", "b", "c"}
    assert (path / "c").read_bytes() == b"\xff"
    assert mode(path / "a") == 0o644
    first = (path / "..data").readlink()
    await node.prepare({"configMap": {"name": "m"}})
    assert (path / "..data").readlink() == first
    node.set("configmaps", "m", data={"a": "changed"})
    await node.prepare({"configMap": {"name": "m"}})
    assert names(path) == {"a"}
    assert (path / "a").read_text() == "changed"
    assert len(list(path.glob("..2*"))) == 1


async def test_items_choose_keys_paths_and_modes(node: Node) -> None:
    node.set("secrets", "s", data={"a": base64.b64encode(b"x").decode(), "b": ""})
    items = [{"key": "a", "path": "deep/er/file", "mode": 0o400}]
    path = await node.prepare({"secret": {"secretName": "s", "items": items, "defaultMode": 0o600}})
    assert names(path) == {"deep"}
    assert (path / "deep/er/file").read_text() == "x"
    assert mode(path / "deep/er/file") == 0o400


async def test_what_is_missing_fails_unless_it_is_optional(node: Node) -> None:
    with pytest.raises(ConfigFault, match=r'MountVolume.SetUp failed for volume "v" : secret "s" not found'):
        await node.prepare({"secret": {"secretName": "s"}})
    assert names(await node.prepare({"secret": {"secretName": "s", "optional": True}})) == set()
    node.set("configmaps", "m", data={})
    with pytest.raises(ConfigFault, match="references non-existent config key: nope"):
        await node.prepare({"configMap": {"name": "m", "items": [{"key": "nope", "path": "x"}]}})


async def test_a_projection_joins_its_sources_and_its_token_is_for_the_pod(node: Node) -> None:
    node.set("configmaps", "ca", data={"ca.crt": "CA"})
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607, "audience": "vault"}},
        {"configMap": {"name": "ca"}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    path = await node.prepare({"projected": {"sources": sources}}, serviceAccountName="robot")
    assert {n: (path / n).read_text() for n in names(path)} == {"token": "robot-1", "ca.crt": "CA", "namespace": "default"}
    assert node.asked[0]["spec"]["boundObjectRef"]["uid"] == "u1"
    assert node.asked[0]["spec"]["audiences"] == ["vault"]
    await node.prepare({"projected": {"sources": sources}}, serviceAccountName="robot")
    assert len(node.asked) == 1


async def test_the_downward_api_shows_labels_and_limits(node: Node) -> None:
    spec = pod(volumes=[])
    spec["metadata"]["labels"] = {"b": 'x"y', "a": "1"}
    spec["spec"]["containers"][0]["resources"] = {"limits": {"memory": "64Mi"}}
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "memory", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory", "divisor": "1Mi"}},
        {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}},
    ]
    spec["spec"]["volumes"] = [{"name": "v", "downwardAPI": {"items": items}}]
    path = (await node.volumes.prepare(spec))["v"].path
    assert (path / "labels").read_text() == 'a="1"\nb="x\\"y"'
    assert (path / "memory").read_text() == "64"
    assert (path / "cpu").read_text() == "4"


async def test_an_empty_dir_is_for_everybody_and_keeps_what_it_holds(node: Node) -> None:
    path = await node.prepare({"emptyDir": {}})
    assert mode(path) == 0o777
    (path / "kept").touch()
    await node.prepare({"emptyDir": {}})
    assert names(path) == {"kept"}


@needs_root
async def test_an_fs_group_owns_the_volumes_of_its_pod(node: Node) -> None:
    node.set("secrets", "s", data={"a": ""})
    security = {"securityContext": {"fsGroup": 1234}}
    path = await node.prepare({"secret": {"secretName": "s", "defaultMode": 0o400}}, **security)
    assert (path / "a").stat().st_gid == 1234
    assert mode(path / "a") == 0o440
    empty = await node.prepare({"emptyDir": {}}, **security)
    assert (empty.stat().st_gid, mode(empty)) == (1234, 0o2777)


async def test_a_volumes_root_has_the_mode_that_programs_find_elsewhere(node: Node) -> None:
    node.set("configmaps", "m", data={"a": "1"})
    node.set("secrets", "s", data={"a": ""})
    assert mode(await node.prepare({"configMap": {"name": "m"}})) == 0o777
    assert mode(await node.prepare({"secret": {"secretName": "s"}})) == 0o1777
    assert mode(await node.prepare({"emptyDir": {"medium": "Memory"}})) == 0o1777


@pytest.mark.root
@needs_root
async def test_an_empty_dir_in_memory_is_no_larger_than_its_pod_may_be(node: Node) -> None:
    def size(path: Path) -> int:
        about = os.statvfs(path)
        return about.f_blocks * about.f_frsize

    limits = {"resources": {"limits": {"memory": "32Mi", "cpu": "1"}}}
    volumes = [
        {"name": "a", "emptyDir": {"medium": "Memory"}},
        {"name": "b", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}},
        {"name": "c", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
    ]
    made = await node.volumes.prepare(pod(container("c", **limits), volumes=volumes))
    assert {name: size(volume.path) >> 20 for name, volume in made.items()} == {"a": 32, "b": 8, "c": 32}


@needs_root
async def test_a_token_belongs_to_the_one_user_of_its_pod_and_to_its_group(node: Node) -> None:
    source = {"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
    both = await node.prepare(source, securityContext={"runAsUser": 7, "fsGroup": 1234})
    about = (both / "t").stat()
    assert (about.st_uid, about.st_gid, mode(both / "t")) == (7, 1234, 0o640)


@needs_root
def test_a_volume_given_to_a_group_is_its_own_but_for_what_lies_elsewhere(tmp_path: Path) -> None:
    volume, outside = tmp_path / "v", tmp_path / "outside"
    (volume / "d").mkdir(parents=True)
    volume.chmod(0o700)
    for file in (volume / "d" / "f", outside):
        file.write_text("")
        file.chmod(0o400)
    (volume / "link").symlink_to(outside)
    ownership.give(volume, 1234)
    assert [(p.stat().st_gid, mode(p)) for p in (volume, volume / "d")] == [(1234, 0o2770), (1234, 0o2775)]
    assert ((volume / "d" / "f").stat().st_gid, mode(volume / "d" / "f")) == (1234, 0o660)
    assert (outside.stat().st_gid, mode(outside)) == (0, 0o400)
    (volume / "d" / "f").chmod(0o400)
    ownership.give(volume, 1234, only_on_mismatch=True)
    assert mode(volume / "d" / "f") == 0o400
    volume.chmod(0o700)
    ownership.give(volume, 1234, only_on_mismatch=True)
    assert mode(volume / "d" / "f") == 0o660


async def test_host_paths_are_of_the_type_that_was_promised(node: Node, tmp_path: Path) -> None:
    made = await node.prepare({"hostPath": {"path": str(tmp_path / "new"), "type": "DirectoryOrCreate"}})
    assert made.is_dir()
    with pytest.raises(ConfigFault, match=r"hostPath type check failed: .* is not a file"):
        await node.prepare({"hostPath": {"path": str(tmp_path / "new"), "type": "File"}})


async def test_a_claim_leads_to_its_volume(node: Node, tmp_path: Path) -> None:
    volume = {"persistentVolumeClaim": {"claimName": "data"}}
    with pytest.raises(ConfigFault, match='persistentvolumeclaim "data" not found'):
        await node.prepare(volume)
    node.set("persistentvolumeclaims", "data", spec={"volumeName": "pv"})
    with pytest.raises(ConfigFault, match="is not bound"):
        await node.prepare(volume)
    meta = {"name": "pv", "resourceVersion": "1"}
    node.objects.changed("persistentvolumes", {"metadata": meta, "spec": {"local": {"path": str(tmp_path)}}})
    assert await node.prepare(volume) == tmp_path


async def test_git_repositories_are_never_fetched(node: Node) -> None:
    """CVE-2024-10220, CVE-2025-1767"""
    with pytest.raises(ConfigFault, match="volumes of type gitRepo are not supported"):
        await node.prepare({"gitRepo": {"repository": "https://example.com/x"}})


async def test_a_removed_pod_leaves_nothing(node: Node) -> None:
    node.set("secrets", "s", data={"a": ""})
    path = await node.prepare({"secret": {"secretName": "s"}})
    empty = await node.prepare({"emptyDir": {"medium": "Memory"}})
    await node.volumes.remove("u1")
    assert not path.exists()
    assert not empty.exists()
    assert await node.volumes.pods_on_disk() == []


def test_a_sub_path_must_stay_below_its_volume() -> None:
    for path in ("/etc", "../x", "a/../../x"):
        with pytest.raises(ConfigFault):
            subpaths.check(path)


def test_a_sub_path_through_a_link_out_of_the_volume_is_refused(tmp_path: Path) -> None:
    """CVE-2017-1002101, CVE-2021-25741"""
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    volume.mkdir()
    outside.mkdir()
    (volume / "link").symlink_to(outside)
    (volume / "up").symlink_to("../outside")
    for name in ("link", "up", "link/deeper"):
        with pytest.raises(OSError, match="not inside"):
            subpaths.prepare(volume, name, tmp_path / "target")
    assert list(outside.iterdir()) == []


@pytest.mark.root
@needs_root
def test_a_sub_path_is_mounted_as_what_was_checked_even_if_the_path_changes_later(tmp_path: Path) -> None:
    """CVE-2017-1002101, CVE-2021-25741"""
    from kubelite.agent.volumes import mounts

    volume = tmp_path / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "a" / "file").write_text("good")
    target = subpaths.prepare(volume, "a", tmp_path / "target")
    try:
        (volume / "a").rename(volume / "b")
        (volume / "a").symlink_to("/etc")
        assert [p.name for p in target.iterdir()] == ["file"]
    finally:
        mounts.unmount(target)


def test_a_missing_sub_path_is_made_with_the_volumes_mode(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    subpaths.prepare(volume, "x/y", tmp_path / "target")
    assert mode(volume / "x") == mode(volume / "x" / "y") == 0o777
    from kubelite.agent.volumes import mounts

    mounts.unmount(tmp_path / "target")


def test_a_payloads_path_cannot_leave_its_volume(tmp_path: Path) -> None:
    from kubelite.agent.volumes.payloads import _checked

    for path in ("/etc/passwd", "../x", "a/../../x", "..data"):
        with pytest.raises(ConfigFault):
            _checked(path)


def test_a_write_that_was_cut_short_is_made_good_by_the_next(tmp_path: Path) -> None:
    atomic.write(tmp_path / "v", {"a": File(b"1", 0o644)})
    (tmp_path / "v" / "..data_tmp").symlink_to("nowhere")
    (tmp_path / "v" / "a").unlink()
    atomic.write(tmp_path / "v", {"a": File(b"2", 0o644)})
    assert (tmp_path / "v" / "a").read_bytes() == b"2"
