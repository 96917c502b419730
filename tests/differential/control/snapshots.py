"""What is in a namespace, in the form in which it is compared: without what is another one each time."""

import json
import re
from collections.abc import Sequence
from typing import Any

from tests.differential.answers import UID
from tests.differential.control.api import Api

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_ADDRESS = re.compile(r"\b10\.(77|96)\.\d+\.\d+\b")
_VERSION = re.compile(r'("resourceVersion": ")\d+')
_RANDOM = re.compile(r"-[bcdfghjklmnpqrstvwxz2456789]{5}\b")
_HASH = re.compile(r"\b[bcdfghjklmnpqrstvwxz2456789]{8,10}\b")
#: What a CronJob's jobs are called after.
_MINUTE = re.compile(r"-\d{8}\b")
#: How an event begins that stands for ten or more: how often what fails is tried again in a script's time is a matter of chance.
_COMBINED = "(combined from similar events)"
_DROPPED = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "deletionTimestamp")
#: What begins a change, as the controller knew it: which of two changes that come at once it says is a matter of chance.
_CHANCE = "endpoints.kubernetes.io/last-change-trigger-time"
#: What a reader finds in one order or another.
_UNORDERED = (
    "conditions",
    "ports",
    "endpoints",
    "addresses",
    "notReadyAddresses",
    "subsets",
    "ownerReferences",
    "active",
    "taints",
)


def take(api: Api, keep: Sequence[str], alike: bool = False) -> dict[str, Any]:
    """The objects of each kept resource, and the events, each as a line. `alike`: a node is as good as the other."""
    listed = {resource: api.list(resource) for resource in dict.fromkeys((*keep, "events"))}
    names = _names(listed, api.namespace)
    if alike:
        names.append((re.compile(r"\{ns\}-[a-h]\b"), "<node>"))
    found: dict[str, Any] = {}
    for resource, objects in listed.items():
        mine = [obj for obj in objects if obj["metadata"].get("namespace") or api.namespace in json.dumps(obj["metadata"])]
        mine = [obj for obj in mine if obj["metadata"]["name"] not in ("kube-root-ca.crt", "default") or resource not in _GIVEN]
        if resource == "events":
            found["events"] = dict.fromkeys(sorted(_masked(_event(obj), names) for obj in mine if _is_kept(obj)), "seen")
        elif resource in keep:
            shown = [json.loads(_masked(json.dumps(_object(obj), sort_keys=True), names)) for obj in mine]
            found[resource] = sorted((_sorted(obj) for obj in shown), key=lambda obj: json.dumps(obj, sort_keys=True))
    return found


_GIVEN = ("configmaps", "serviceaccounts")


def versions(objects: Sequence[dict[str, Any]]) -> list[str]:
    return [f"{obj['metadata']['name']} {obj['metadata']['resourceVersion']}" for obj in objects]


def _is_kept(event: dict[str, Any]) -> bool:
    return bool(event.get("source", {}).get("component")) and not event["message"].startswith(_COMBINED)


def _event(event: dict[str, Any]) -> str:
    about = event["involvedObject"]
    name = f"{about.get('kind')}/{about.get('name')}"
    return f"{name} {event['type']} {event['reason']} ({event['source']['component']}): {event['message']}"


def _names(listed: dict[str, list[dict[str, Any]]], namespace: str) -> list[tuple[re.Pattern[str], str]]:
    """(pattern, what is shown for it) of names that are made up: hashes are told apart by the revision that they stand for."""
    found = [(re.compile(re.escape(namespace)), "{ns}")]
    for objects in listed.values():
        for obj in objects:
            meta = obj["metadata"]
            revision = (meta.get("annotations") or {}).get("deployment.kubernetes.io/revision") or obj.get("revision")
            hash_ = (meta.get("labels") or {}).get("pod-template-hash", "")
            if obj.get("kind") == "ControllerRevision":
                hash_ = meta["name"].rpartition("-")[2]
            if hash_ and revision:
                found.append((re.compile(re.escape(hash_)), f"<hash {revision}>"))
    return found


def _masked(text: str, names: Sequence[tuple[re.Pattern[str], str]]) -> str:
    for pattern, shown in names:
        text = pattern.sub(shown, text)
    text = _MINUTE.sub("-<minute>", text)
    text = _ADDRESS.sub("<address>", _TIME.sub("<time>", UID.sub("<uid>", text)))
    return _RANDOM.sub("-<random>", _HASH.sub("<hash>", _VERSION.sub(r"\1<revision>", text)))


def _object(obj: dict[str, Any]) -> dict[str, Any]:
    meta = obj["metadata"]
    shown = {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}
    if _CHANCE in (meta.get("annotations") or {}):
        meta = {**meta, "annotations": {key: value for key, value in meta["annotations"].items() if key != _CHANCE}}
    shown["metadata"] = {key: value for key, value in meta.items() if key not in _DROPPED and value not in (None, [], {})}
    if "type" in shown and "data" in shown:
        shown["data"] = dict.fromkeys(shown["data"], "<secret>")
    if "deletionTimestamp" in meta:
        shown["metadata"]["being deleted"] = True
    status = shown.get("status")
    if isinstance(status, dict) and "observedGeneration" in status:
        status = {**status, "observedGeneration": "current" if status["observedGeneration"] == meta["generation"] else "older"}
        shown["status"] = status
    if isinstance(status, dict) and isinstance(status.get("conditions"), list):
        shown["status"] = {
            **status,
            "conditions": [{k: v for k, v in c.items() if k != "observedGeneration"} for c in status["conditions"]],
        }
    return shown


def _sorted(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _sorted(item, key) for key, item in value.items() if item not in (None, [])}
    if isinstance(value, list):
        items = [_sorted(item) for item in value]
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if name in _UNORDERED else items
    return value
