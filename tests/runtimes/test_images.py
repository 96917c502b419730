"""Names of images, archives of images, and the images that are made without a registry."""

import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtimes import archives, imagebuild, references
from runtimes.interface import InvalidImageName, RuntimeFault


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("team/app", "docker.io/team/app:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/library/nginx:1", "docker.io/library/nginx:1"),
        ("localhost/app:2", "localhost/app:2"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("registry.k8s.io/pause:3.10.1", "registry.k8s.io/pause:3.10.1"),
        (f"x@sha256:{'a' * 64}", f"docker.io/library/x@sha256:{'a' * 64}"),
        (f"x:1@sha256:{'a' * 64}", f"docker.io/library/x:1@sha256:{'a' * 64}"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
    ],
)
def test_names_are_completed(text: str, full: str) -> None:
    assert references.full(text) == full


@pytest.mark.parametrize("text", ["", ":", "a:", "a b", "A", "a//b", "-a", "a@sha256:1", "registry/A", "a:b:c", "x" * 300, "a\n"])
def test_what_is_no_name_is_told_so(text: str) -> None:
    with pytest.raises(InvalidImageName):
        references.parse(text)


@contextmanager
def opened(data: bytes) -> Iterator[archives.Archive]:
    with archives.opened(io.BytesIO(data)) as tar:
        yield archives.Archive(tar)


def tar_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_archive_is_the_same_each_time_and_reads_back() -> None:
    sources = [
        imagebuild.ImageSource("a:1", {"x": imagebuild.File(b"1")}),
        imagebuild.ImageSource("b:2", {"y/z": imagebuild.File(b"2")}),
    ]
    data = imagebuild.archive(sources)
    assert data == imagebuild.archive(sources)
    for packed in (data, gzip.compress(data)):
        with opened(packed) as archive:
            contents = archive.contents()
            assert [name for name, _ in contents.names] == ["docker.io/library/a:1", "docker.io/library/b:2"]
            for blob in contents.blobs:
                found = b"".join(archive.chunks(blob))
                assert f"sha256:{hashlib.sha256(found).hexdigest()}" == blob.digest
                assert len(found) == blob.size_bytes


def test_children_come_before_what_refers_to_them() -> None:
    with opened(imagebuild.archive([imagebuild.ImageSource("a:1", {"x": imagebuild.File(b"1")})])) as archive:
        blobs = archive.contents().blobs
    stored: set[str] = set()
    for blob in blobs:
        assert set(blob.children.values()) <= stored
        stored.add(blob.digest)
    assert set(blobs[-1].children) == {"config", "l.0"}


def test_docker_save_archives_are_read() -> None:
    layer = tar_of({"hello": b"world"})
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    manifest = [{"Config": "c.json", "RepoTags": ["thing:1", "other/thing:2"], "Layers": ["l/layer.tar"]}]
    files = {"manifest.json": json.dumps(manifest).encode(), "c.json": config, "l/layer.tar": layer}
    with opened(tar_of(files)) as archive:
        contents = archive.contents()
        (_, target), (_, same) = contents.names
        assert [name for name, _ in contents.names] == ["docker.io/library/thing:1", "docker.io/other/thing:2"]
        assert target == same
        made = json.loads(b"".join(archive.chunks(target)))
        assert made["layers"][0]["digest"] == f"sha256:{hashlib.sha256(layer).hexdigest()}"
        assert made["layers"][0]["mediaType"] == archives.OCI_LAYER


def test_index_with_other_platforms_keeps_what_is_there() -> None:
    """As `docker buildx` and `skopeo` write them: the index names platforms whose blobs are not in the archive."""
    files = dict(_members(imagebuild.archive([imagebuild.ImageSource("a:1", {"x": imagebuild.File(b"1")})])))
    (entry,) = json.loads(files["index.json"])["manifests"]
    here = {k: v for k, v in entry.items() if k != "annotations"}
    absent = {
        "mediaType": archives.OCI_MANIFEST,
        "digest": f"sha256:{'0' * 64}",
        "size": 1,
        "platform": {"architecture": "s390x", "os": "linux"},
    }
    inner = json.dumps({"schemaVersion": 2, "mediaType": archives.OCI_INDEX, "manifests": [here, absent]}).encode()
    digest = hashlib.sha256(inner).hexdigest()
    files[f"blobs/sha256/{digest}"] = inner
    top = {"mediaType": archives.OCI_INDEX, "digest": f"sha256:{digest}", "size": len(inner), "annotations": entry["annotations"]}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    with opened(tar_of(files)) as archive:
        ((name, target),) = archive.contents().names
        assert name == "docker.io/library/a:1"
        assert target.children == {"m.0": here["digest"]}


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar.getmembers():
            if (file := tar.extractfile(member)) is not None:
                yield member.name, file.read()


@pytest.mark.parametrize(
    "files",
    [
        {"something": b"else"},
        {"index.json": b"{"},
        {"index.json": b"[]"},
        {"index.json": b'{"manifests":[{"digest":"sha256:00"}]}'},
        {"index.json": b'{"manifests":[{"digest":"../../etc/passwd"}]}'},
        {"manifest.json": b'[{"Config":"missing.json"}]'},
        {"manifest.json": b'[{"Config":"../../../etc/passwd"}]'},
        {"manifest.json": b"[{}]"},
        {"manifest.json": b'["x"]'},
    ],
)
def test_broken_archives_are_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(RuntimeFault), opened(tar_of(files)) as archive:
        archive.contents()


def test_changed_manifest_is_refused() -> None:
    files = dict(_members(imagebuild.archive([imagebuild.ImageSource("a:1", {})])))
    (entry,) = json.loads(files["index.json"])["manifests"]
    files[f"blobs/{entry['digest'].replace(':', '/')}"] += b" "
    with pytest.raises(RuntimeFault, match="digest"), opened(tar_of(files)) as archive:
        archive.contents()


@pytest.fixture
def pause(tmp_path: Path) -> Path:
    program = tmp_path / "pause"
    program.write_bytes(imagebuild.pause("pause").files["pause"].data)
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_pause_waits_and_ends_on_a_signal(pause: Path, number: signal.Signals) -> None:
    process = subprocess.Popen([pause])
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    process.send_signal(number)
    assert process.wait(5) == 0


@pytest.mark.root
def test_pause_as_init_reaps_orphans_and_ends_on_a_signal(pause: Path) -> None:
    """As in a pod with a shared process namespace."""
    # the shell leaves an orphan behind and becomes pause, which is process 1 there
    script = f"(/bin/busybox sleep 0.1 & ) ; exec {pause}"
    process = subprocess.Popen(["unshare", "--fork", "--pid", "--kill-child", "/bin/sh", "-c", script])
    try:
        init = _child(process.pid)
        for _ in range(500):  # until the shell has become pause and waits: a signal before that is lost to an init
            status = Path(f"/proc/{init}/status").read_text()
            if "Name:\tpause\n" in status and "State:\tS" in status:
                break
            signal.sigtimedwait([], 0.02)
        # the orphan belongs to init until it ends, and is not left as a zombie
        for _ in range(200):
            if not _children(init):
                break
            signal.sigtimedwait([], 0.02)
        assert _children(init) == []
        os.kill(init, signal.SIGTERM)
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait()


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _child(pid: int) -> int:
    for _ in range(200):
        if found := _children(pid):
            return found[0]
        signal.sigtimedwait([], 0.02)
    raise AssertionError("no child")


def test_static_binaries_are_told_from_others() -> None:
    assert imagebuild.is_static(imagebuild.pause("pause").files["pause"].data)
    assert not imagebuild.is_static(Path("/bin/sh").read_bytes())
    assert not imagebuild.is_static(b"#!/bin/sh\n")
