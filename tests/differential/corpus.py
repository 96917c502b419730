"""The corpus: requests that are sent to every server, written down as YAML in `corpus/`.

A file has a namespace of its own, `{ns}` in its texts. It holds any of two lists, done in order:

`kinds`: a good object of a kind, `object`, created `at` its collection, and changes that are tried on it: `create` (each is
the object with one change, created as a dry run), `update` (the object is really created first; each is what the server
then holds with one change, replaced as a dry run) and `status` (the same through the status subresource).

`requests`: any request: `name`, `do` ("METHOD /path?query"), and as needed `body` (sent as JSON), `text` (sent as it is),
`headers` and `user` (impersonated).

A change maps paths to values: `spec.containers.0.image`, with names that have dots in brackets, `metadata.labels.[a.b/c]`. null
takes a field away, `<null>` sends null.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

DIRECTORY = Path(__file__).parent / "corpus"
_STEP = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")


@dataclass(frozen=True)
class Case:
    """One request. With `base` set, its body is the answer to an earlier case of that id with `change` done to it."""

    id: str
    method: str
    path: str
    body: Any = None
    text: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    base: str = ""
    change: Mapping[str, Any] = field(default_factory=dict)
    keep: Literal["", "managed"] = ""
    waits: bool = False


def files() -> list[Path]:
    return sorted(DIRECTORY.glob("*.yaml"))


def cases(file: Path) -> list[Case]:
    """The cases of one file, in the order in which they are sent."""
    content = yaml.load(file.read_text(), Loader=yaml.CSafeLoader) or {}
    found: list[Case] = []
    for kind in content.get("kinds") or ():
        found += _of_kind(file.stem, kind)
    for request in content.get("requests") or ():
        found.append(_request(file.stem, request))
    ids = [case.id for case in found]
    twice = {i for i in ids if ids.count(i) > 1}
    if twice:
        raise ValueError(f"{file}: cases of the same name: {sorted(twice)}")
    return found


def _of_kind(stem: str, kind: Mapping[str, Any]) -> Iterator[Case]:
    at, obj = kind["at"], kind["object"]
    label = f"{stem}/{kind.get('label') or at.rpartition('/')[2]}"
    for name, change in (kind.get("create") or {}).items():
        yield Case(f"{label}: create: {name}", "POST", f"{at}?dryRun=All", changed(obj, change))
    made = f"{label}: create"
    yield Case(made, "POST", at, obj)
    url = f"{at}/{obj['metadata']['name']}"
    if obj["kind"] == "CustomResourceDefinition":
        made = f"{label}: read"
        yield Case(made, "GET", url, waits=True)
    for name, change in (kind.get("update") or {}).items():
        yield Case(f"{label}: update: {name}", "PUT", f"{url}?dryRun=All", base=made, change=change)
    for name, change in (kind.get("status") or {}).items():
        yield Case(f"{label}: status: {name}", "PUT", f"{url}/status?dryRun=All", base=made, change=change)
    if not kind.get("stays"):
        yield Case(f"{label}: delete", "DELETE", f"{url}?gracePeriodSeconds=0")


def _request(stem: str, request: Mapping[str, Any]) -> Case:
    method, _, path = request["do"].partition(" ")
    headers = dict(request.get("headers") or {})
    if request.get("user"):
        headers["Impersonate-User"] = request["user"]
    return Case(
        f"{stem}: {request['name']}",
        method,
        path,
        request.get("body"),
        request.get("text"),
        headers,
        request.get("of", ""),
        request.get("change") or {},
        request.get("keep", ""),
    )


def changed(obj: Any, change: Mapping[str, Any]) -> Any:
    """A copy of an object with a change done."""
    copy = json.loads(json.dumps(obj))
    for path, value in change.items():
        _put(copy, [(m[1] if m[1] is not None else m[2]) for m in _STEP.finditer(path)], value)
    return copy


def _put(at: Any, steps: list[str], value: Any) -> None:
    for step, following in itertools.pairwise(steps):
        if isinstance(at, list):
            at = at[int(step)]
        else:
            if at.get(step) is None:
                at[step] = [] if following.isdigit() else {}
            at = at[step]
    last = steps[-1]
    sent = None if value == "<null>" else value
    if isinstance(at, list):
        at[int(last) : int(last) + 1] = [sent]
    elif value is None:
        at.pop(last, None)
    else:
        at[last] = sent
