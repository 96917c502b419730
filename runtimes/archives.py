"""Image archives: OCI layouts and `docker save` files, plain or gzipped, as sets of blobs with the names that point at them.

An archive is spooled to a file, so that its size doesn't matter. What is read from it is checked against its digest where it
has one; a Docker archive has none, so its manifests are made here.
"""

import asyncio
import gzip
import hashlib
import json
import platform
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

from runtimes import references
from runtimes.interface import RuntimeFault

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
_JSON_LIMIT_BYTES = 8 << 20
_CHUNK_BYTES = 1 << 20

#: The names that OCI gives to machines.
ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


def architecture() -> str:
    return ARCHITECTURES.get(platform.machine(), platform.machine())


@dataclass(frozen=True, slots=True)
class Blob:
    """A descriptor, and where its bytes are: a member of the archive, or `data`. `children` are the digests that it refers to,
    each with the kind of reference that a garbage collector needs: config, l.N, m.N."""

    media_type: str
    digest: str
    size_bytes: int
    member: str = ""
    data: bytes = b""
    children: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive holds: blobs in an order in which they may be stored (children first), and names for some of them."""

    blobs: tuple[Blob, ...]
    names: tuple[tuple[str, Blob], ...]


async def spool(chunks: AsyncIterator[bytes], file: IO[bytes]) -> None:
    """Writes the archive to the file, and rewinds it."""
    async for chunk in chunks:
        await asyncio.to_thread(file.write, chunk)
    await asyncio.to_thread(file.seek, 0)


@contextmanager
def opened(file: IO[bytes]) -> Iterator[tarfile.TarFile]:
    """The tar in a spooled file. Members are read by name and never extracted.

    Raises: RuntimeFault when it is no archive.
    """
    try:
        head = file.read(2)
        file.seek(0)
        raw: Any = gzip.GzipFile(fileobj=file) if head == b"\x1f\x8b" else file
        with tarfile.open(fileobj=raw, mode="r:") as tar:
            yield tar
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, UnicodeDecodeError) as e:
        expected = "an OCI layout or a docker save file, tar or gzip, is expected"
        raise RuntimeFault(f"the image archive cannot be read: {e}; {expected}") from e


class Archive:
    """One opened archive."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._members = {m.name.removeprefix("./"): m for m in tar.getmembers()}

    def contents(self) -> Contents:
        """Raises: RuntimeFault when something is missing or does not match its digest."""
        try:
            if "index.json" in self._members:
                return self._oci()
            if "manifest.json" in self._members:
                return self._docker()
        except (KeyError, TypeError, AttributeError) as e:
            raise RuntimeFault(f"the image archive's description is not shaped as it should be: {e!r}") from e
        raise RuntimeFault("the archive holds neither index.json (OCI) nor manifest.json (docker save)")

    def chunks(self, blob: Blob) -> Iterator[bytes]:
        if not blob.member:
            yield blob.data
            return
        file = self._file(blob.member)
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk

    def _member(self, name: str) -> tarfile.TarInfo:
        member = self._members.get(name)
        for _ in range(4):  # old docker save files link layers that are the same
            if member is None or not (member.issym() or member.islnk()):
                break
            target = member.linkname
            if member.issym():
                parts = [*name.split("/")[:-1], *target.split("/")]
                resolved: list[str] = []
                for part in parts:
                    if part == ".." and resolved:
                        resolved.pop()
                    elif part not in ("..", ".", ""):
                        resolved.append(part)
                target = "/".join(resolved)
            member, name = self._members.get(target), target
        if member is None or not member.isfile():
            raise RuntimeFault(f"the image archive has no file {name!r}, which it refers to")
        return member

    def _file(self, name: str) -> IO[bytes]:
        file = self._tar.extractfile(self._member(name))
        if file is None:
            raise RuntimeFault(f"the image archive has no file {name!r}, which it refers to")
        return file

    def _small(self, name: str) -> bytes:
        if self._member(name).size > _JSON_LIMIT_BYTES:
            raise RuntimeFault(f"{name!r} in the image archive is larger than {_JSON_LIMIT_BYTES} bytes")
        return self._file(name).read()

    def _oci(self) -> Contents:
        blobs: dict[str, Blob] = {}
        names: list[tuple[str, Blob]] = []
        for entry in _parsed(self._small("index.json"), "index.json").get("manifests") or ():
            blob = self._oci_manifest(entry, blobs, 0)
            if blob is None:
                raise RuntimeFault(f"the image archive lacks the manifest {entry.get('digest')}")
            annotations = entry.get("annotations") or {}
            name = annotations.get("io.containerd.image.name") or annotations.get("org.opencontainers.image.ref.name", "")
            if name and (annotations.get("io.containerd.image.name") or "/" in name or ":" in name):
                names.append((references.full(name), blob))
        return Contents(tuple(blobs.values()), tuple(names))

    def _oci_manifest(self, descriptor: dict[str, Any], blobs: dict[str, Blob], depth: int) -> Blob | None:
        """Adds a manifest or index with its children; None where the archive does not have it (other platforms)."""
        digest, media_type = descriptor.get("digest", ""), descriptor.get("mediaType", "")
        member = _blob_path(digest)
        if member not in self._members:
            return None
        if digest in blobs:
            return blobs[digest]
        data = self._small(member)
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise RuntimeFault(f"{digest} in the image archive does not match its digest")
        parsed = _parsed(data, digest)
        children: dict[str, str] = {}
        if media_type in (OCI_INDEX, DOCKER_INDEX) or "manifests" in parsed:
            if depth > 3:
                raise RuntimeFault("the image archive nests indexes too deeply")
            found = [c for c in parsed.get("manifests") or () if self._oci_manifest(c, blobs, depth + 1) is not None]
            children = {f"m.{n}": c["digest"] for n, c in enumerate(found)}
            media_type = media_type or OCI_INDEX
        else:
            layers = parsed.get("layers") or []
            for child in (parsed.get("config") or {}, *layers):
                if (path := _blob_path(child.get("digest", ""))) not in self._members:
                    raise RuntimeFault(f"the image archive lacks {child.get('digest')}, which the manifest {digest} refers to")
                size = self._member(path).size
                blobs.setdefault(child["digest"], Blob(child.get("mediaType", ""), child["digest"], size, path))
            children = {"config": parsed["config"]["digest"], **{f"l.{n}": c["digest"] for n, c in enumerate(layers)}}
            media_type = media_type or OCI_MANIFEST
        blobs[digest] = Blob(media_type, digest, len(data), member, children=children)
        return blobs[digest]

    def _docker(self) -> Contents:
        blobs: dict[str, Blob] = {}
        names: list[tuple[str, Blob]] = []
        for entry in _parsed(self._small("manifest.json"), "manifest.json", list):
            config = self._small(entry["Config"])
            config_blob = Blob(OCI_CONFIG, f"sha256:{hashlib.sha256(config).hexdigest()}", len(config), data=config)
            blobs.setdefault(config_blob.digest, config_blob)
            layers = []
            for layer in entry.get("Layers") or ():
                hashed, size, head = hashlib.sha256(), 0, b""
                file = self._file(layer)
                while chunk := file.read(_CHUNK_BYTES):
                    head = head or chunk[:2]
                    hashed.update(chunk)
                    size += len(chunk)
                kind = f"{OCI_LAYER}+gzip" if head == b"\x1f\x8b" else OCI_LAYER
                blob = Blob(kind, f"sha256:{hashed.hexdigest()}", size, layer)
                blobs.setdefault(blob.digest, blob)
                layers.append(blob)
            manifest = json.dumps({
                "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": _descriptor(config_blob),
                "layers": [_descriptor(b) for b in layers],
            }).encode()  # fmt: skip
            children = {"config": config_blob.digest, **{f"l.{n}": b.digest for n, b in enumerate(layers)}}
            blob = Blob(
                OCI_MANIFEST, f"sha256:{hashlib.sha256(manifest).hexdigest()}", len(manifest), data=manifest, children=children
            )
            blobs.setdefault(blob.digest, blob)
            names += [(references.full(tag), blob) for tag in entry.get("RepoTags") or ()]
        return Contents(tuple(blobs.values()), tuple(names))


def _descriptor(blob: Blob) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size_bytes}


def _blob_path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"


def _parsed(data: bytes, name: str, kind: type = dict) -> Any:
    try:
        value = json.loads(data)
    except ValueError as e:
        raise RuntimeFault(f"{name} in the image archive is no JSON: {e}") from e
    if not isinstance(value, kind):
        raise RuntimeFault(f"{name} in the image archive is no JSON {kind.__name__}")
    return value
