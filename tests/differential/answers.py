"""Answers in the form in which they are compared: without what is another one each time."""

import json
import random
import re
import string
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.differential.corpus import Case, changed
from tests.differential.servers import Answer, Server

SETTLE_LIMIT_S = 10
UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
#: Of the services' networks (the servers' own and one that the corpus adds) the first addresses are named in the corpus.
_ADDRESS = re.compile(r"10\.(?:96|97|143)\.(?!0\.0/|0\.1\b|0\.1[01]\b)\d+\.\d+")
_TOKEN_VOLUME = re.compile(r"kube-api-access-[a-z0-9]{5}")
_REVISION = re.compile(r"(\\?\"resourceVersion\\?\":\\?\"|current: |in record \()\d+")
_STORAGE = re.compile(r"StorageError: .*?AdditionalErrorMsg: ")
_VALUE = re.compile(r"(?:Invalid|Unsupported|Duplicate) value: (?=[{\[n\"])")
_SUPPORTED = re.compile(r"supported values: (\".*\")")
_DROPPED = ("uid", "resourceVersion", "creationTimestamp", "selfLink")


def collect(server: Server, cases: Sequence[Case]) -> dict[str, Any]:
    """Sends the cases of one file in order; the normalized answers by the cases' ids."""
    namespace = "d" + "".join(random.choices(string.ascii_lowercase, k=7))
    prepare(server, namespace)
    bodies: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for case in cases:
        sent, _ = _body(case, bodies, namespace)
        answer = send(server, case, bodies, namespace)
        bodies[case.id] = answer.body
        found[case.id] = normalized(answer, namespace, _generated_name(sent), case.keep == "managed")
    return found


def send(server: Server, case: Case, bodies: Mapping[str, Any], namespace: str) -> Answer:
    """The answer to a case, `bodies` the answers before it by their cases' ids. To one that waits, the first answer in which
    the object's definition is served."""
    sent, headers = _body(case, bodies, namespace)
    end = time.monotonic() + SETTLE_LIMIT_S
    while True:
        answer = server.send(case.method, case.path.replace("{ns}", namespace), sent, headers)
        if not case.waits or time.monotonic() > end or _is_established(answer.body):
            return answer
        time.sleep(0.1)


def _is_established(definition: Any) -> bool:
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


def prepare(server: Server, namespace: str) -> None:
    """A namespace with the service account that pods run as."""
    headers = {"Content-Type": "application/json"}
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    answer = server.send("POST", "/api/v1/namespaces", json.dumps(made).encode(), headers)
    assert answer.code == 201, answer
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    server.send("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", json.dumps(account).encode(), headers)


def _body(case: Case, bodies: Mapping[str, Any], namespace: str) -> tuple[bytes | None, dict[str, str]]:
    headers = {"Accept": "application/json", **case.headers}
    if case.text is not None:
        text = case.text
    elif case.base:
        text = json.dumps(changed(bodies[case.base], {"metadata.managedFields": None, **case.change}))
    elif case.body is not None:
        text = json.dumps(case.body)
    else:
        return None, headers
    headers.setdefault("Content-Type", "application/json")
    return text.replace("{ns}", namespace).encode(), headers


def _generated_name(sent: bytes | None) -> re.Pattern[str] | None:
    """What the names look like that the server makes up for a request."""
    try:
        base = json.loads(sent or b"")["metadata"]["generateName"]
    except (ValueError, LookupError, TypeError):
        return None
    return re.compile(re.escape(str(base)) + "[a-z0-9]{5}")


def normalized(answer: Answer, namespace: str, generated: re.Pattern[str] | None = None, managed: bool = False) -> dict[str, Any]:
    """An answer as it is recorded and compared."""
    found: dict[str, Any] = {"code": answer.code}
    body = answer.body
    if isinstance(body, dict) and body.get("kind") == "Status":
        found |= _status(body)
    elif isinstance(body, str) and body.startswith('{"type":'):
        found["events"] = [_event(json.loads(line), managed) for line in body.splitlines()]
    elif isinstance(body, str):
        found["text"] = body
    else:
        found["object"] = _object(body, managed)
    if answer.warnings:
        found["warnings"] = list(answer.warnings)
    text = json.dumps(found, ensure_ascii=False).replace(namespace, "{ns}")
    text = _ADDRESS.sub("<address>", _TIME.sub("<time>", UID.sub("<uid>", text)))
    text = _REVISION.sub(r"\1<revision>", _TOKEN_VOLUME.sub("kube-api-access-<random>", text))
    if generated is not None:
        text = generated.sub("<generated>", text)
    result: dict[str, Any] = json.loads(text)
    return result


def _event(event: dict[str, Any], managed: bool) -> dict[str, Any]:
    """An event of a watch."""
    inner = event["object"]
    return {"type": event["type"], "object": _status(inner) if inner.get("kind") == "Status" else _object(inner, managed)}


def _status(body: dict[str, Any]) -> dict[str, Any]:
    """Several causes come in any order where Kubernetes walks a map, so they are sorted and left out of the message; it also
    repeats those of an update's metadata, so each is taken once."""
    details = dict(body.get("details") or {})
    details.pop("uid", None)
    given = [{**cause, "message": _text(cause.get("message", ""))} for cause in details.pop("causes", None) or []]
    causes = [json.loads(text) for text in sorted({json.dumps(cause, sort_keys=True) for cause in given})]
    message = body.get("message", "")
    if len(given) > 1 and message.endswith("]"):
        only = f"{causes[0].get('field', '')}: {causes[0]['message']}"
        message = message.partition("[")[0] + (only if len(causes) == 1 else "[...]")
    else:
        message = _text(message)
    status = {"status": body.get("status"), "reason": body.get("reason", ""), "message": message}
    if details:
        status["details"] = details
    if causes:
        status["causes"] = causes
    return status


def _text(message: str) -> str:
    """A message without values that are objects (Kubernetes prints some of them as Go structs), without differences of such,
    without keys of the storage, and with the values that a field may have in one order."""
    message = re.split(r"\n@@ |\n  ", _STORAGE.sub("", message), maxsplit=1)[0].rstrip("\n")
    found = _VALUE.search(message)
    if found:
        try:
            value, end = json.JSONDecoder().raw_decode(message, found.end())
        except ValueError:
            pass  # a value that is no JSON stays as it is
        else:
            if not isinstance(value, (str, list)) or (isinstance(value, str) and value.startswith("{")):
                message = message[: found.end()] + "<object>" + message[end:]
            elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
                message = message[: found.end()] + "<list>" + message[end:]
    return _SUPPORTED.sub(lambda m: "supported values: " + ", ".join(sorted(m[1].split(", "))), message)


_MANAGER = ("operation", "manager", "subresource", "apiVersion")
_ALLOCATED = ("nodePort", "healthCheckNodePort")


def _object(value: Any, managed: bool) -> Any:
    """An object without what servers make up, and without nulls and empty lists, which mean the same as nothing."""
    if isinstance(value, list):
        return [_object(item, managed) for item in value]
    if not isinstance(value, dict):
        return value
    made = {key: _object(item, managed) for key, item in value.items() if key not in _ALLOCATED and item not in (None, [])}
    if made.get("kind") in ("CustomResourceDefinition", "FlowSchema"):
        made.pop("status", None)  # a controller's, some moments later in Kubernetes
    if made.get("kind") == "CertificateSigningRequest":
        for field in ("username", "uid", "groups", "extra"):  # who the servers' administrators are
            made["spec"].pop(field, None)
    meta = made.get("metadata")
    if isinstance(meta, dict):
        for key in _DROPPED if managed else (*_DROPPED, "managedFields"):
            meta.pop(key, None)
        if meta.get("managedFields"):  # ordered by time, to the second
            meta["managedFields"].sort(key=lambda entry: [str(entry.get(key)) for key in _MANAGER])
        if meta.get("continue"):
            meta["continue"] = "<token>"
    return made
