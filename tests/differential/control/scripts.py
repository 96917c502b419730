"""The scripts: what users do, written down as YAML in `scripts/`.

A file is a list of them, each played in a namespace of its own, `{ns}` in its texts:

`name`; `nodes`, so many of its own (`{ns}-a`, `{ns}-b`, ..., in a zone each), which are all the same where they are `alike`;
`keep`, the resources that are compared at the end;
`steps`, done in order, each one of
- `create`: an object; `patch`: RESOURCE/NAME, `with` a merge patch, `subresource`; `delete`: RESOURCE/NAME, `with` options
- `play`: what becomes of pods from now on, the first that fits counts: `as` run, unready, pending, unscheduled, succeed,
  fail or fail:CODE, disrupted, or restart:COUNT, where `labels`, `index` (of a Job) and `name` (a pattern) fit, `most` so often;
  without one they run
- `wait`: RESOURCE/NAME, until the value `at` a path `is` something; or until it is `gone`; RESOURCE alone, with `labels`, until
  so many as `are` have what is to be there
- `settle`: until nothing changes any more
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DIRECTORY = Path(__file__).parent / "scripts"
NODE_LETTERS = "abcdefgh"


@dataclass(frozen=True)
class Script:
    id: str
    steps: Sequence[Mapping[str, Any]]
    keep: Sequence[str]
    nodes: int = 0
    alike: bool = False


def files() -> list[Path]:
    return sorted(DIRECTORY.glob("*.yaml"))


def read(file: Path) -> list[Script]:
    """The scripts of one file."""
    content = yaml.load(file.read_text(), Loader=yaml.CSafeLoader) or []
    found = [
        Script(f"{file.stem}: {row['name']}", row["steps"], row["keep"], row.get("nodes", 0), row.get("alike", False))
        for row in content
        if "name" in row
    ]
    ids = [script.id for script in found]
    if len(set(ids)) != len(ids):
        raise ValueError(f"{file}: two scripts have one name")
    return found
