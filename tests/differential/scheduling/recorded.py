"""What the real kube-scheduler decided in invented scenarios: one JSON file, a line each.

Scenarios are not kept but invented anew from their seeds; `digest` tells whether they are still the recorded ones.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.differential.scheduling.outcomes import Account
from tests.differential.scheduling.scenario import Scenario

FILE = Path(__file__).parent / "decisions-1.34.3.json"


@dataclass(frozen=True)
class Record:
    digest: str
    account: Account


def digest(scenario: Scenario) -> str:
    return hashlib.sha256(json.dumps(asdict(scenario), sort_keys=True).encode()).hexdigest()[:16]


def read() -> dict[int, Record]:
    """By seed."""
    return {int(seed): Record(**written) for seed, written in json.loads(FILE.read_text()).items()} if FILE.exists() else {}


def write(records: Mapping[int, Record]) -> None:
    lines = (f'"{seed}": {json.dumps(asdict(record), sort_keys=True)}' for seed, record in sorted(records.items()))
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
