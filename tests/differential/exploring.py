"""Looks for differences that no case of the corpus shows yet: changes of its objects' fields, sent to two live servers.

A difference found here is mended, or accepted with its reason; then a case of it goes into the corpus.
"""

import random
import string
from collections import Counter
from collections.abc import Iterator, Mapping
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
        if labels and label not in labels:
            continue
        yield (f"{file.stem}/{label}", *_explore_kind(real, ours, kind, label, most, random.Random(seed)))


def _explore_kind(
    real: Server, ours: Server, kind: Mapping[str, Any], label: str, most: int, chance: random.Random
) -> tuple[int, list[Found]]:
    shape = structure.structure_of(_row(kind["object"]))
    skip = _skipped(kind["at"].rpartition("/")[2])
    namespaces = [_namespace(server) for server in (real, ours)]
    made = [_create(server, kind, namespace) for server, namespace in zip((real, ours), namespaces, strict=True)]
    changes: list[tuple[str, mutations.Change]] = [
        ("create", change) for change in mutations.of_object(shape, kind["object"], skip)
    ]
    if all(body is not None for body in made):
        sent = {name: value for name, value in made[1].items() if name != "status"}
        changes += [("update", change) for change in mutations.of_object(shape, sent, (*skip, "status"))]
        if "status" in shape.properties and _has_status(kind["object"]):
            status = {"status": made[1].get("status") or {}}
            inner = (*(f for f in shape.properties if f != "status"),)
            changes += [("status", change) for change in mutations.of_object(shape, status, inner)]
    if len(changes) > most:
        changes = chance.sample(changes, most)
    found: list[Found] = []
    for mode, change in changes:
        case = _case(kind, mode, change)
        pair = [
            _answer(server, case, body, namespace) for server, body, namespace in zip((real, ours), made, namespaces, strict=True)
        ]
        lines = differences.found(f"{label}: explored", *pair, differences.accepted())
        if lines:
            told = brief(pair[0]), brief(pair[1])
            shown = lines if told[0] == told[1] else [f"there: {told[0]}", f"here:  {told[1]}"]
            found.append((mode, mutations.name_of(change), [_short(line) for line in shown]))
    remove = Case("remove", "DELETE", f"{kind['at']}/{kind['object']['metadata']['name']}?gracePeriodSeconds=0")
    for server, namespace in zip((real, ours), namespaces, strict=True):
        answers.send(server, remove, {}, namespace)
    return len(changes), found


def _row(obj: Mapping[str, Any]) -> Kind:
    group, _, version = obj["apiVersion"].rpartition("/")
    return next(k for k in builtin.kinds() if (k.group, k.version, k.kind) == (group, version, obj["kind"]))


def _has_status(obj: Mapping[str, Any]) -> bool:
    return "status" in _row(obj).subresources


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
    answer = answers.send(server, Case("made", "POST", kind["at"], kind["object"]), None, namespace)
    return answer.body if answer.code == 201 else None


def _case(kind: Mapping[str, Any], mode: str, change: mutations.Change) -> Case:
    url = f"{kind['at']}/{kind['object']['metadata']['name']}"
    match mode:
        case "create":
            name = f"{kind['object']['metadata']['name']}-x"
            body = corpus.changed(kind["object"], {"metadata.name": name, **change})
            return Case(mode, "POST", f"{kind['at']}?dryRun=All", body)
        case "update":
            return Case(mode, "PUT", f"{url}?dryRun=All", base="made", change=change)
    return Case(mode, "PUT", f"{url}/status?dryRun=All", base="made", change=change)


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
