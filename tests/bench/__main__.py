"""`make bench`: measures this checkout on this machine and prints each figure beside its budget."""

import argparse
import json
import sys
from collections.abc import AsyncIterator, Callable

import uvloop
from rich.console import Console
from rich.table import Table

from tests.bench import measures, pods
from tests.bench.budgets import BUDGETS

GROUPS: dict[str, Callable[[], AsyncIterator[measures.Figure]]] = {
    "start": measures.start,
    "api": measures.api,
    "scheduling": measures.scheduling,
    "pods": pods.starts,
}


async def measure(groups: list[str], console: Console) -> dict[str, float]:
    """Every figure of the groups, each told as soon as it is known."""
    figures: dict[str, float] = {}
    for group in groups:
        async for name, figure in GROUPS[group]():
            figures[name] = figure
            console.print(f"{BUDGETS[name].what}: {figure:,.3g} {BUDGETS[name].unit}", highlight=False)
    return figures


def table(figures: dict[str, float]) -> Table:
    out = Table(title="kubelite beside its budgets")
    for column in ("what", "real Kubernetes", "budget", "measured", ""):
        out.add_column(column, justify="left" if column in ("what", "") else "right")
    for name, figure in figures.items():
        budget = BUDGETS[name]
        real = f"{budget.real:,g} {budget.unit}" if budget.real is not None else ""
        verdict = "[green]met[/]" if budget.is_met(figure) else "[red]missed[/]"
        out.add_row(budget.what, real, f"{budget.ours:,g} {budget.unit}", f"{figure:,.4g} {budget.unit}", verdict)
    return out


def main() -> int:
    cli = argparse.ArgumentParser(prog="make bench ARGS=", description=__doc__)
    cli.add_argument("--only", default=",".join(GROUPS), help=f"groups of measures, of {','.join(GROUPS)}")
    cli.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = cli.parse_args()
    groups = args.only.split(",")
    unknown = [g for g in groups if g not in GROUPS]
    if unknown:
        cli.error(f"no such group: {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    console = Console(stderr=args.json)
    try:
        figures = uvloop.run(measure(groups, console))
    except measures.Failed as e:
        print(f"bench: {e}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(figures))
    else:
        console.print(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
