"""`python -m tests.differential record [FILE ...]` records the answers of the API server that KUBELITE_ORACLE names;
`python -m tests.differential compare [FILE ...]` prints what differs. FILE is the name of a corpus file, without .yaml."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.differential import answers, corpus, differences, recorded, servers


def main(command: str, names: list[str]) -> int:
    files = [file for file in corpus.files() if not names or file.stem in names]
    if command == "record":
        oracle = os.environ.get("KUBELITE_ORACLE")
        if not oracle:
            print("set KUBELITE_ORACLE to the kubeconfig of a Kubernetes 1.34.3 API server", file=sys.stderr)
            return 2
        server = servers.Server(Path(oracle))
        for file in files:
            found = answers.collect(server, corpus.cases(file))
            recorded.write(file, found)
            print(f"{file.stem}: {len(found)} answers")
        return 0
    if command == "compare":
        return _compare(files)
    print(__doc__, file=sys.stderr)
    return 2


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
                        lines = [f"there: {_brief(real[case])}", f"here:  {_brief(answer)}"]
                    print(*(f"    {line}" for line in lines if len(lines) == 1 or not line.startswith("message: ")), sep="\n")
    print(f"{total} cases, {bad} differ")
    return int(bad > 0)


def _brief(answer: dict[str, Any]) -> str:
    causes = " | ".join(f"{cause.get('field', '')}: {cause.get('message')}" for cause in answer.get("causes", ()))
    return f"{answer['code']} {answer.get('reason', '')} {causes or answer.get('message') or answer.get('text', '')}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:]))
