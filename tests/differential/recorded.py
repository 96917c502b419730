"""The answers of the real API server, one JSON file for each file of the corpus."""

import json
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "answers-1.34.3"
#: What the real controller manager makes of each script.
CONTROLLED = Path(__file__).parent / "controlled-1.34.3"


def read(file: Path, directory: Path = DIRECTORY) -> dict[str, Any]:
    """The answers to a corpus file's cases, none where it was not recorded yet."""
    path = directory / f"{file.stem}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def write(file: Path, answers: dict[str, Any], directory: Path = DIRECTORY) -> None:
    """One line a case, so that a change shows what it is about."""
    lines = (f"{json.dumps(case)}: {json.dumps(answer, sort_keys=True, ensure_ascii=False)}" for case, answer in answers.items())
    directory.mkdir(exist_ok=True)
    (directory / f"{file.stem}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
