"""What became of the pods of a scenario after each of its steps, and what differs between two accounts of that.

An outcome of a pod is its node, or why it has none, and which node is kept for it. Where there was a choice it has the scores:
what each plugin gave a node more than the worst of them, plugins that gave all the same left out. They are compared exactly; of
the nodes with the highest sum Kubernetes takes any, so any of them is right.

What pods that waited already get from a step is told too, but not what is said of those that go on waiting: when they are tried
again is not the same here and there. After anything else than a new pod the real scheduler starts afresh and looks at all of
them, and kubelite must have found by itself what it finds.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kubelite.meta.types import Obj
from tests.differential.scheduling.scenario import Scenario, key_of
from tests.differential.scheduling.schedulers import Scores, Watched
from tests.differential.scheduling.stage import Stage
from tests.differential.servers import Server

#: One for each step: {"pods": {key: outcome}, "victims": [key]}
Account = list[dict[str, Any]]


def account(scenario: Scenario, stage: Stage, scheduler: Watched, told: Account | None = None) -> Account:
    """Plays a scenario whose objects are on the stage. Where `told` has another node of equal rank for a pod, the pod is put
    there, so that what follows has the same ground."""
    found: Account = []
    waiting: dict[str, Obj] = {}
    last: dict[str, dict[str, Any]] = {}
    for step in scenario.steps:
        before = stage.pods()
        key = key_of(step.obj)
        if step.verb == "delete":
            before.pop(key, None)
            waiting.pop(key, None)
        is_new = step.verb == "create" and step.obj["kind"] == "Pod" and not step.obj["spec"].get("nodeName")
        if is_new:
            waiting[key] = step.obj
        with scheduler.during([*waiting], anew=not is_new):
            stage.do(step)
        pods = stage.settled(waiting, step.obj["kind"], scheduler.is_idle)
        outcomes = {key: _outcome(pods[key], scheduler.scores(key)) for key in waiting if key in pods}
        news = {name: outcome for name, outcome in outcomes.items() if _is_news(last.get(name), outcome)}
        found.append({"pods": news, "victims": _victims(before, pods)})
        last |= outcomes
        if told is not None:
            _follow(stage, news, told[len(found) - 1]["pods"], waiting)
        for name in [name for name, outcome in outcomes.items() if "node" in outcome]:
            del waiting[name]
    return found


def play(
    scenario: Scenario,
    stage: Stage,
    scheduler: Callable[[Server], contextlib.AbstractContextManager[Watched]],
    told: Account | None = None,
) -> Account:
    """The account of a scenario that is put on the stage, with a scheduler that starts when all is there."""
    stage.clear()
    for obj in scenario.given:
        stage.put(obj)
    with scheduler(stage.server) as running:
        return account(scenario, stage, running, told)


def _is_news(before: Mapping[str, Any] | None, outcome: Mapping[str, Any]) -> bool:
    return before is None or any(before.get(part) != outcome.get(part) for part in ("node", "nominated"))


def _victims(before: Mapping[str, Obj], pods: Mapping[str, Obj]) -> list[str]:
    return sorted(
        key
        for key, pod in before.items()
        if pod["spec"].get("nodeName")
        and not pod["metadata"].get("deletionTimestamp")
        and (key not in pods or pods[key]["metadata"].get("deletionTimestamp"))
    )


def _outcome(pod: Obj, scores: Scores) -> dict[str, Any]:
    status = pod.get("status") or {}
    found: dict[str, Any] = {}
    if pod["spec"].get("nodeName"):
        found["node"] = pod["spec"]["nodeName"]
        if scores:
            found |= {"best": best(scores), "scores": relative(scores)}
    else:
        condition: Obj = next((c for c in status.get("conditions") or () if c["type"] == "PodScheduled"), {})
        found["waits"] = f"{condition.get('reason', '')}: {condition.get('message', '')}"
    if status.get("nominatedNodeName"):
        found["nominated"] = status["nominatedNodeName"]
    return found


def relative(scores: Scores) -> dict[str, dict[str, int]]:
    """{plugin: {node: how much better than the worst}}, from what each plugin gave each node."""
    found = {}
    for plugin, by_node in sorted(scores.items()):
        least = min(by_node.values())
        if any(score != least for score in by_node.values()):
            found[plugin] = {node: score - least for node, score in sorted(by_node.items())}
    return found


def best(scores: Scores) -> list[str]:
    """The nodes with the highest sum."""
    totals: Counter[str] = Counter()
    for by_node in scores.values():
        totals.update(by_node)
    return sorted(node for node, total in totals.items() if total == max(totals.values()))


def _follow(stage: Stage, news: dict[str, dict[str, Any]], told: Mapping[str, Any], waiting: Mapping[str, Obj]) -> None:
    for key, mine in news.items():
        node = told.get(key, {}).get("node")
        if node and mine.get("node") not in (None, node):
            stage.bind(waiting[key], node)


def differences(real: Account, ours: Account) -> Iterator[str]:
    """What differs, a line each; none where kubelite decided as it should. Ends at the first step that differs: what follows
    from it would differ too."""
    for number, (there, here) in enumerate(zip(real, ours, strict=True)):
        lines = [*_of_step(there, here)]
        if lines:
            yield from (f"step {number}: {line}" for line in lines)
            return


def _of_step(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(there["pods"].keys() | here["pods"].keys()):
        yield from (f"{key}: {line}" for line in _of_pod(there["pods"].get(key) or {}, here["pods"].get(key) or {}))
    if there["victims"] != here["victims"]:
        yield f"victims: {there['victims']} there, {here['victims']} here"


def _of_pod(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    for plugin in sorted(there.get("scores", {}).keys() | here.get("scores", {}).keys()):
        pair = [outcome.get("scores", {}).get(plugin) for outcome in (there, here)]
        if pair[0] != pair[1]:
            yield f"{plugin}: {pair[0]} there, {pair[1]} here"
    same = there.get("node") == here.get("node") and there.get("waits") == here.get("waits")
    if not same and here.get("node") not in there.get("best", ()):
        yield f"{there.get('node') or there.get('waits')} there, {here.get('node') or here.get('waits')} here"
    if there.get("nominated") != here.get("nominated"):
        yield f"nominated: {there.get('nominated')} there, {here.get('nominated')} here"
