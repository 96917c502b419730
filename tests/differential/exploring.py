"""Looks for differences that no case of the corpus shows yet: changes of its objects' fields, sent to two live servers.

A difference found here is mended, or accepted with its reason; then a case of it goes into the corpus.
"""

import random
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kubelite.schema import builtin, structure
from kubelite.schema.kinds import Kind
from tests.differential import answers, corpus, differences, mutations
from tests.differential.corpus import Case
from tests.differential.servers import Server

#: What every kind has in common is explored with one of them only.
_METADATA_OF = "configmaps"
#: As are the pods in other kinds' templates.
_TEMPLATES_OF = "pods"
_ALWAYS_SKIPPED = ("apiVersion", "kind", "metadata.managedFields", "metadata.name", "metadata.namespace")

#: A line of the output ends here.
_LINE = 400

#: (mode, the case's short name, what differs)
Found = tuple[str, str, list[str]]


def explore(
    real: Server, ours: Server, file: Path, labels: set[str], most: int, seed: int
) -> Iterator[tuple[str, int, list[Found]]]:
    """For each kind of a corpus file (of `labels`, where there are any): its label, how many changes were tried, what differs."""
    content = yaml.load(file.read_text(), Loader=yaml.CSafeLoader) or {}
    for kind in content.get("kinds") or ():
        label = kind.get("label") or kind["at"].rpartition("/")[2]
        if (labels and label not in labels) or _row(kind["object"]) is None:
            continue
        yield (f"{file.stem}/{label}", *_explore_kind(real, ours, kind, label, most, random.Random(seed)))


def _explore_kind(
    real: Server, ours: Server, kind: Mapping[str, Any], label: str, most: int, chance: random.Random
) -> tuple[int, list[Found]]:
    row = _row(kind["object"])
    assert row is not None
    shape = structure.structure_of(row)
    skip = _skipped(kind["at"].rpartition("/")[2])
    places = [(server, _namespace(server)) for server in (real, ours)]
    found: list[Found] = []
    tried = 0

    def compare(mode: str, changes: Iterator[mutations.Change], bases: Sequence[Any]) -> None:
        nonlocal tried
        chosen = list(changes)
        for change in chosen if len(chosen) <= most else chance.sample(chosen, most):
            tried += 1
            case = _case(kind, mode, change)
            pair = [_answer(server, case, base, namespace) for (server, namespace), base in zip(places, bases, strict=True)]
            lines = differences.found(f"{label}: explored", *pair, differences.accepted())
            if lines:
                told = brief(pair[0]), brief(pair[1])
                shown = lines if told[0] == told[1] else [f"there: {told[0]}", f"here:  {told[1]}"]
                found.append((mode, mutations.name_of(change), [_short(line) for line in shown]))

    compare("create", mutations.of_object(shape, kind["object"], skip), (None, None))
    made = [_create(server, kind, namespace) for server, namespace in places]
    if all(body is not None for body in made):
        sent = {name: value for name, value in made[1].items() if name != "status"}
        compare("update", mutations.of_object(shape, sent, (*skip, "status")), made)
        if "status" in shape.properties and "status" in row.subresources:
            status = {"status": made[1].get("status") or {}}
            inner = (*(f for f in shape.properties if f != "status"),)
            compare("status", mutations.of_object(shape, status, inner), made)
        for server, namespace in places:
            answers.send(server, Case("gone", "DELETE", f"{_url(kind)}?gracePeriodSeconds=0"), {}, namespace)
    return tried, found


def _row(obj: Mapping[str, Any]) -> Kind | None:
    """The object's kind, None for a custom one."""
    group, _, version = obj["apiVersion"].rpartition("/")
    found = (k for k in builtin.kinds() if (k.group, k.version, k.kind) == (group, version, obj["kind"]))
    return next(found, None)


def _skipped(plural: str) -> tuple[str, ...]:
    skip = list(_ALWAYS_SKIPPED)
    if plural != _METADATA_OF:
        skip.append("metadata")
    if plural != _TEMPLATES_OF:
        skip += ["spec.template.spec", "spec.jobTemplate.spec.template", "template.spec"]
    return tuple(skip)


def _namespace(server: Server) -> str:
    name = "x" + "".join(random.choices(string.ascii_lowercase, k=7))
    answers.prepare(server, name)
    return name


def _create(server: Server, kind: Mapping[str, Any], namespace: str) -> Any:
    """The object as the server holds it, None where it could not be created."""
    answer = answers.send(server, Case("made", "POST", kind["at"], kind["object"]), {}, namespace)
    if answer.code != 201:
        return None
    waits = kind["object"]["kind"] == "CustomResourceDefinition"
    return answers.send(server, Case("read", "GET", _url(kind), waits=waits), {}, namespace).body


def _url(kind: Mapping[str, Any]) -> str:
    return f"{kind['at']}/{kind['object']['metadata']['name']}"


def _case(kind: Mapping[str, Any], mode: str, change: mutations.Change) -> Case:
    match mode:
        case "create":
            return Case(mode, "POST", f"{kind['at']}?dryRun=All", corpus.changed(kind["object"], change))
        case "update":
            return Case(mode, "PUT", f"{_url(kind)}?dryRun=All", base="made", change=change)
    return Case(mode, "PUT", f"{_url(kind)}/status?dryRun=All", base="made", change=change)


def _answer(server: Server, case: Case, made: Any, namespace: str) -> dict[str, Any]:
    answer = answers.send(server, case, {"made": made}, namespace)
    if case.base and answer.code == 409:  # perhaps a controller within the server has changed the object
        path = case.path.partition("?")[0].removesuffix("/status")
        made |= answers.send(server, Case("read", "GET", path), {}, namespace).body
        answer = answers.send(server, case, {"made": made}, namespace)
    return answers.normalized(answer, namespace)


def brief(answer: Mapping[str, Any]) -> str:
    """An answer in a line."""
    causes = " | ".join(f"{cause.get('field', '')}: {cause.get('message')}" for cause in answer.get("causes", ()))
    return f"{answer['code']} {answer.get('reason', '')} {causes or answer.get('message') or answer.get('text', '')}"


def _short(text: str) -> str:
    return text if len(text) <= _LINE else f"{text[: _LINE - 60]} ... {text[-50:]}"


def summary(found: list[Found]) -> list[str]:
    """The differences by the first steps of their paths, the most frequent first."""
    counts = Counter(f"{mode} {'.'.join(name.partition('=')[0].split('.')[:4])}" for mode, name, _ in found)
    return [f"{count:5} {what}" for what, count in counts.most_common()]
