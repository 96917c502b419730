"""Compares kubelite's scheduler with a real kube-scheduler 1.34.3, whose binary KUBELITE_SCHEDULER_ORACLE names, in invented
scenarios.

`python -m tests.differential.scheduling record SEED ...` records what the real one decides in the scenarios of these seeds;
`python -m tests.differential.scheduling compare [SEED ...]` prints what differs from the recorded decisions;
`python -m tests.differential.scheduling explore SEED ...` plays scenarios with both and prints what differs;
`python -m tests.differential.scheduling show SEED ...` prints a scenario and what was recorded of it. SEED may be a range, 0-99.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.differential import servers
from tests.differential.scheduling import outcomes, recorded, schedulers
from tests.differential.scheduling.invention import invent
from tests.differential.scheduling.outcomes import Account, play
from tests.differential.scheduling.scenario import Scenario
from tests.differential.scheduling.stage import Stage


class Plays:
    """Scenarios played with either scheduler, each on an API server of its own."""

    def __init__(self, stack: ExitStack, binary: str | None) -> None:
        self._binary = binary
        self._real, self._ours = (Stage(stack.enter_context(servers.kubelite(_directory(stack)))) for _ in range(2))

    def real(self, scenario: Scenario) -> Account:
        if not self._binary:
            raise SystemExit("set KUBELITE_SCHEDULER_ORACLE to the binary of a kube-scheduler 1.34.3")
        binary = Path(self._binary)
        return play(scenario, self._real, lambda server: schedulers.real(binary, server))

    def ours(self, scenario: Scenario, told: Account) -> Account:
        return play(scenario, self._ours, schedulers.ours, told)


def _directory(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory()))


def main(words: list[str]) -> int:
    cli = argparse.ArgumentParser(
        prog="python -m tests.differential.scheduling", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    cli.add_argument("command", choices=("record", "compare", "explore", "show"))
    cli.add_argument("seeds", nargs="*", type=_seeds, metavar="SEED")
    args = cli.parse_args(words)
    seeds = [seed for some in args.seeds for seed in some]
    if args.command == "show":
        return _show(seeds)
    with ExitStack() as stack:
        plays = Plays(stack, os.environ.get("KUBELITE_SCHEDULER_ORACLE"))
        match args.command:
            case "record":
                return _record(plays, seeds)
            case "compare":
                known = recorded.read()
                return _report((seed, known[seed].account, plays) for seed in known if not seeds or seed in seeds)
            case _:
                return _report((seed, plays.real(invent(seed)), plays) for seed in seeds)


def _seeds(word: str) -> range:
    first, _, last = word.partition("-")
    return range(int(first), int(last or first) + 1)


def _record(plays: Plays, seeds: list[int]) -> int:
    known = recorded.read()
    for seed in seeds:
        scenario = invent(seed)
        known[seed] = recorded.Record(recorded.digest(scenario), plays.real(scenario))
        recorded.write(known)
    print(f"{len(known)} scenarios")
    return 0


def _report(told: Iterator[tuple[int, Account, Plays]]) -> int:
    bad = total = 0
    for seed, real, plays in told:
        lines = [*outcomes.differences(real, plays.ours(invent(seed), real))]
        bad, total = bad + bool(lines), total + 1
        if lines:
            print(f"seed {seed}", *(f"    {line}" for line in lines), sep="\n", flush=True)
    print(f"{total} scenarios, {bad} differ")
    return int(bad > 0)


def _show(seeds: list[int]) -> int:
    known = recorded.read()
    for seed in seeds:
        scenario = invent(seed)
        print(f"seed {seed}", *(json.dumps(obj) for obj in scenario.given), sep="\n")
        for number, step in enumerate(scenario.steps):
            print(f"step {number}: {step.verb} {json.dumps(step.obj)}")
            if seed in known:
                print(f"    {json.dumps(known[seed].account[number])}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
