"""The answers of the real API server, one JSON file for each file of the corpus."""

import json
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "answers-1.34.3"


def read(file: Path) -> dict[str, Any]:
    """The answers to a corpus file's cases, none where it was not recorded yet."""
    path = DIRECTORY / f"{file.stem}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def write(file: Path, answers: dict[str, Any]) -> None:
    """One line a case, so that a change shows what it is about."""
    lines = (f"{json.dumps(case)}: {json.dumps(answer, sort_keys=True, ensure_ascii=False)}" for case, answer in answers.items())
    DIRECTORY.mkdir(exist_ok=True)
    (DIRECTORY / f"{file.stem}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
