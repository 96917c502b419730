"""Keeps docs/conformance.md: which of Kubernetes' conformance tests pass, from the JUnit report of a run.

    conformance.py REPORT.xml [--page docs/conformance.md] [--all FILE.tsv]

The list of what passes only grows: a test that passed in an earlier run and fails in this one is printed, stays listed, and
makes the exit status 1. `--all` names a file whose second column lists every test that a full run has, for those not run yet.
"""

import argparse
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

HEADER = """# Conformance

Kubernetes' own end-to-end suite, all tests tagged `[Conformance]` at 1.34.3, against `kubelite up` with containerd and a second
node that joined. 389 of them run by default, five at a time; 35 are serial, disruptive or slow and run alone. The list of what
passes only grows; `scripts/conformance.py` keeps it from a run's JUnit report.

The test of a read-only busybox wants the words of busybox's own shell; it can pass only with an image that has that shell.

"""


def read_report(path: Path) -> dict[str, bool]:
    """Each test that ran, and whether it passed."""
    results: dict[str, bool] = {}
    for case in ET.parse(path).iter("testcase"):
        name = case.get("name", "")
        if name.startswith("[It]") and case.get("status") != "skipped":
            results[clean(name.removeprefix("[It]"))] = case.get("status") == "passed"
    return results


def clean(name: str) -> str:
    """A test's name without the tags that every line of the page would repeat, and without a report's list of labels."""
    name = re.sub(r"\[[^\[\]]*, [^\[\]]*\]$", "", name.strip())
    return re.sub(r"\s+", " ", re.sub(r"\[(Conformance|NodeConformance)\]", "", name)).strip()


def read_page(path: Path) -> set[str]:
    """The tests that the page lists as passing."""
    if not path.exists():
        return set()
    passing = path.read_text().partition("## Passing")[2].partition("## Not yet")[0]
    return {line.removeprefix("- ") for line in passing.splitlines() if line.startswith("- ")}


def main() -> int:
    cli = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cli.add_argument("report", type=Path)
    cli.add_argument("--page", type=Path, default=Path("docs/conformance.md"))
    cli.add_argument("--all", type=Path, dest="everything")
    args = cli.parse_args()
    results = read_report(args.report)
    before = read_page(args.page)
    passed = before | {name for name, ok in results.items() if ok}
    lost = sorted(name for name in before if results.get(name) is False)
    known = passed | results.keys()
    if args.everything:
        lines = args.everything.read_text().splitlines()[1:]
        known |= {clean(line.partition("\t")[2]) for line in lines}
    missing = sorted(known - passed)
    page = HEADER + f"{len(passed)} of {len(known)} pass.\n\n## Passing\n\n"
    page += "".join(f"- {name}\n" for name in sorted(passed))
    page += "\n## Not yet\n\n" + "".join(f"- {name}\n" for name in missing)
    args.page.write_text(page)
    print(f"{len(passed)} of {len(known)} pass; {len(passed - before)} new")
    for name in lost:
        print(f"passed before and failed now: {name}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
