"""Images made without registry, compiler or root: the pause image from a few machine instructions, and a busybox from a
static binary (Debian's busybox-static).

The result is an OCI archive, the same bytes each time, that `Runtime.import_image` takes.
"""

import gzip
import hashlib
import io
import json
import struct
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtimes import archives, references
from runtimes.interface import RuntimeFault

#: The pod sandbox's only process: blocks INT, TERM and CHLD, waits for one (rt_sigtimedwait), reaps children on CHLD and exits
#: with 0 on the others. An init must block what it waits for: a signal without handler that isn't blocked never reaches it.
_PAUSE_CODE = {
    "amd64": bytes.fromhex(
        "6802400100"  # push 0x14002: the signal set {2, 15, 17}
        "4889e631ff31d26a08415a6a0e580f05"  # rt_sigprocmask(SIG_BLOCK, set, 0, 8)
        "4889e731f631d26a08415ab8800000000f05"  # wait: rt_sigtimedwait(set, 0, 0, 8)
        "83f811740b"  # SIGCHLD: to reap
        "85c078e5"  # interrupted: to wait
        "31ff6a3c580f05"  # exit(0)
        "6aff5f31f66a015a4531d26a3d580f05"  # reap: wait4(-1, 0, WNOHANG, 0)
        "85c07fecebc8"  # while one was there; then to wait
    ),
    "arm64": bytes.fromhex(
        "ff4300d1400088522000a072e00300f9"  # the signal set on the stack
        "000080d2e1030091020080d2030180d2e81080d2010000d4"  # rt_sigprocmask(SIG_BLOCK, set, 0, 8)
        "e0030091010080d2020080d2030180d2281180d2010000d4"  # wait: rt_sigtimedwait(set, 0, 0, 8)
        "1f440071a000005400ffff37"  # SIGCHLD: to reap; interrupted: to wait
        "000080d2a80b80d2010000d4"  # exit(0)
        "00008092010080d2220080d2030080d2882080d2010000d4"  # reap: wait4(-1, 0, WNOHANG, 0)
        "1f0000712cffff54ecffff17"  # while one was there; then to wait
    ),
}  # fmt: skip
_ELF_MACHINES = {"amd64": 62, "arm64": 183}


@dataclass(frozen=True, slots=True)
class File:
    """A file in an image: its bytes, or what it links to."""

    data: bytes = b""
    link: str = ""
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class ImageSource:
    """An image to build: its name, the files by path (without a leading slash) and the configuration as OCI has it."""

    name: str
    files: Mapping[str, File]
    config: Mapping[str, Any] = field(default_factory=dict)


def archive(images: Iterable[ImageSource]) -> bytes:
    """An OCI archive of the images."""
    blobs: dict[str, bytes] = {}
    index = []
    for image in images:
        layer = _layer(image.files)
        packed = gzip.compress(layer, 6, mtime=0)
        config = _json({
            "architecture": archives.architecture(), "os": "linux", "config": dict(image.config),
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        })  # fmt: skip
        manifest = _json({
            "schemaVersion": 2, "mediaType": archives.OCI_MANIFEST,
            "config": _described(archives.OCI_CONFIG, config), "layers": [_described(f"{archives.OCI_LAYER}+gzip", packed)],
        })  # fmt: skip
        for blob in (packed, config, manifest):
            blobs[f"blobs/{_digest(blob).replace(':', '/')}"] = blob
        name = references.full(image.name)
        index.append(_described(archives.OCI_MANIFEST, manifest) | {"annotations": {"io.containerd.image.name": name}})
    files = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "manifests": index}),
        **blobs,
    }
    return _layer({path: File(data, mode=0o644) for path, data in files.items()})


def pause(name: str) -> ImageSource:
    """The image of pod sandboxes under the given name.

    Raises: RuntimeFault on a machine whose instructions are not known here.
    """
    machine = archives.architecture()
    code = _PAUSE_CODE.get(machine)
    if code is None:
        raise RuntimeFault(f"no pause image can be made for {machine}: import one as {name} (kubelite image import FILE)")
    return ImageSource(
        name, {"pause": File(_elf(machine, code))}, {"Entrypoint": ["/pause"], "User": "65535:65535", "Env": ["PATH=/"]}
    )


def busybox(
    name: str, binary: Path, config: Mapping[str, Any] | None = None, extra: Mapping[str, File] | None = None
) -> ImageSource:
    """A small userland: the binary with a link for each of its applets, users root and nobody, /tmp."""
    applets = subprocess.run([binary, "--list"], check=True, capture_output=True, text=True).stdout.split()
    files = {"bin/busybox": File(binary.read_bytes())}
    files |= {f"bin/{applet}": File(link="busybox") for applet in applets if applet != "busybox"}
    files |= {
        "etc/passwd": File(b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", mode=0o644),
        "etc/group": File(b"root:x:0:\nnobody:x:65534:\n", mode=0o644),
        "tmp/": File(mode=0o1777),
        "root/": File(mode=0o700),
        **(extra or {}),
    }
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return ImageSource(name, files, {"Cmd": ["sh"], "Env": [path], **(config or {})})


def is_static(binary: bytes) -> bool:
    """Whether a 64-bit ELF executable needs no loader: it has no PT_INTERP segment."""
    if binary[:5] != b"\x7fELF\x02":
        return False
    (offset,) = struct.unpack_from("<Q", binary, 32)
    size, count = struct.unpack_from("<HH", binary, 54)
    return all(struct.unpack_from("<I", binary, offset + n * size)[0] != 3 for n in range(count))


def _layer(files: Mapping[str, File]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        seen: set[str] = set()
        for path, file in files.items():
            for parent in _parents(path):
                if parent not in seen and f"{parent}/" not in files:
                    seen.add(parent)
                    _add(tar, parent, tarfile.DIRTYPE, 0o755)
            if path.endswith("/"):
                seen.add(path[:-1])
                _add(tar, path[:-1], tarfile.DIRTYPE, file.mode)
            elif file.link:
                _add(tar, path, tarfile.SYMTYPE, 0o777, link=file.link)
            else:
                _add(tar, path, tarfile.REGTYPE, file.mode, file.data)
    return out.getvalue()


def _parents(path: str) -> Sequence[str]:
    parts = path.rstrip("/").split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def _add(tar: tarfile.TarFile, path: str, kind: bytes, mode: int, data: bytes = b"", link: str = "") -> None:
    info = tarfile.TarInfo(path)
    info.type, info.mode, info.size, info.linkname = kind, mode, len(data), link
    tar.addfile(info, io.BytesIO(data))


def _elf(machine: str, code: bytes) -> bytes:
    """A static 64-bit executable of one loaded segment. Source: the System V ABI, ELF-64."""
    base, header = 0x400000, 64 + 56
    size = header + len(code)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    return (
        ident
        + struct.pack("<HHIQQQIHHHHHH", 2, _ELF_MACHINES[machine], 1, base + header, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x10000)
        + code
    )


def _described(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
