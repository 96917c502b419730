"""Compares kubelite with a real API server.

`python -m tests.differential record [FILE ...]` records the answers of the API server that KUBELITE_ORACLE names;
`python -m tests.differential compare [FILE ...]` prints what differs from the recorded ones;
`python -m tests.differential explore [--most N] [--seed N] [FILE[/KIND] ...]` tries values at and beyond the edges in every field
of the corpus' objects, on both servers, and prints what differs. FILE is the name of a corpus file, without .yaml.

`python -m tests.differential control [FILE[/NAME] ...]` plays the controllers' scripts and prints what differs from what the real
controller manager made of them; with `--record` that one plays them, and what it makes is recorded: KUBELITE_CONTROLLER_MANAGER
names its file. FILE is the name of one of the scripts' files, NAME a part of a script's name.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.differential import answers, corpus, differences, exploring, recorded, servers
from tests.differential.control import runner, scripts
from tests.differential.exploring import brief


def main(words: list[str]) -> int:
    cli = argparse.ArgumentParser(
        prog="python -m tests.differential", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    cli.add_argument("command", choices=("record", "compare", "explore", "control"))
    cli.add_argument("names", nargs="*", metavar="FILE[/KIND]")
    cli.add_argument(
        "--most",
        type=int,
        default=1_000_000,
        help="explore: so many creates, updates and statuses of each kind, chosen by chance",
    )
    cli.add_argument("--seed", type=int, default=0, help="explore: another one chooses others")
    cli.add_argument("--record", action="store_true", help="control: records what the real controller manager does")
    args = cli.parse_intermixed_args(words)
    if args.command == "control":
        return _control(args.names, record=args.record)
    wanted = {name.partition("/")[0] for name in args.names}
    files = [file for file in corpus.files() if not wanted or file.stem in wanted]
    oracle = os.environ.get("KUBELITE_ORACLE")
    if args.command == "compare":
        return _compare(files)
    if not oracle:
        print("set KUBELITE_ORACLE to the kubeconfig of a Kubernetes 1.34.3 API server", file=sys.stderr)
        return 2
    real = servers.Server(Path(oracle))
    if args.command == "record":
        return _record(real, files)
    labels = {name.partition("/")[2] for name in args.names} - {""}
    return _explore(real, files, labels, args.most, args.seed)


def _record(server: servers.Server, files: list[Path]) -> int:
    for file in files:
        found = answers.collect(server, corpus.cases(file))
        recorded.write(file, found)
        print(f"{file.stem}: {len(found)} answers")
    return 0


def _compare(files: list[Path]) -> int:
    bad = total = 0
    allowed = differences.accepted()
    with tempfile.TemporaryDirectory() as directory, servers.kubelite(Path(directory)) as server:
        for file in files:
            real, ours = recorded.read(file), answers.collect(server, corpus.cases(file))
            for case, answer in ours.items():
                total += 1
                lines = differences.found(case, real[case], answer, allowed) if case in real else ["not recorded"]
                if lines:
                    bad += 1
                    print(case)
                    if case in real and (real[case].get("code"), "object" in real[case]) != (answer["code"], "object" in answer):
                        lines = [f"there: {brief(real[case])}", f"here:  {brief(answer)}"]
                    print(*(f"    {line}" for line in lines if len(lines) == 1 or not line.startswith("message: ")), sep="\n")
    print(f"{total} cases, {bad} differ")
    return int(bad > 0)


def _explore(real: servers.Server, files: list[Path], labels: set[str], most: int, seed: int) -> int:
    bad = total = 0
    with tempfile.TemporaryDirectory() as directory, servers.kubelite(Path(directory)) as ours:
        for file in files:
            for label, tried, found in exploring.explore(real, ours, file, labels, most, seed):
                bad, total = bad + len(found), total + tried
                for mode, name, lines in found:
                    print(f"{label}: {mode}: {name}", *(f"    {line}" for line in lines), sep="\n")
                print(f"{label}: {tried} changes, {len(found)} differ", *exploring.summary(found), sep="\n", flush=True)
    print(f"{total} changes, {bad} differ")
    return int(bad > 0)


def _control(names: list[str], *, record: bool) -> int:
    manager = os.environ.get("KUBELITE_CONTROLLER_MANAGER", "")
    if record and not manager:
        print("set KUBELITE_CONTROLLER_MANAGER to the file of a kube-controller-manager 1.34.3", file=sys.stderr)
        return 2
    bad = 0
    allowed = differences.accepted("controlled")
    with tempfile.TemporaryDirectory() as directory, servers.controlled(Path(directory), manager if record else "") as kubeconfig:
        for file in scripts.files():
            mine = [name.partition("/")[2] for name in names if name.partition("/")[0] == file.stem]
            listed = scripts.read(file)
            found = runner.play_all(kubeconfig, [s for s in listed if not names or any(part in s.id for part in mine)])
            real = recorded.read(file, recorded.CONTROLLED)
            if record:
                kept = real | found
                recorded.write(file, {s.id: kept[s.id] for s in listed if s.id in kept}, recorded.CONTROLLED)
            for name, made in found.items():
                lines = differences.found(name, real.get(name), made, allowed) if not record else [made.get("failure", "")]
                bad += any(lines)
                print(name, *(f"    {line[:400]}" for line in lines if line), sep="\n", flush=True)
    print(f"{bad} {'failed' if record else 'differ'}")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
