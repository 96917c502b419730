#!/usr/bin/env python3
"""Builds the images that tests and examples need from Debian's static busybox: no registry, no compiler, no root.

Writes images.tar, an OCI archive that `kubelite image import` takes, with docker.io/library/busybox:1.36 (a shell and its tools,
an HTTP server among them) and registry.k8s.io/pause:3.10.1.
"""

import argparse
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from runtimes import imagebuild  # noqa: E402 -- from the checkout, installed or not


def binary() -> Path:
    """A busybox without dynamic loader."""
    for candidate in ("/bin/busybox", "/usr/bin/busybox", shutil.which("busybox")):
        if candidate and Path(candidate).is_file() and imagebuild.is_static(Path(candidate).read_bytes()):
            return Path(candidate)
    sys.exit("images: no static busybox here; install Debian's: apt-get install busybox-static")


def main() -> None:
    parser = argparse.ArgumentParser(description="Builds images from Debian's static busybox.")
    parser.add_argument(
        "--output", type=Path, default=ROOT / ".cache" / "images", help="the directory that images.tar is written to"
    )
    directory: Path = parser.parse_args().output
    images = [
        imagebuild.pause("registry.k8s.io/pause:3.10.1"),
        imagebuild.busybox("docker.io/library/busybox:1.36", binary()),
    ]
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / "images.tar"
    data = imagebuild.archive(images)
    if not target.exists() or target.read_bytes() != data:
        partial = target.with_suffix(".partial")
        partial.write_bytes(data)
        partial.replace(target)
    print(f"images: {', '.join(image.name for image in images)} in {target}")


if __name__ == "__main__":
    main()
