"""Plays scripts on a server."""

import json
import random
import re
import string
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.differential.control import snapshots
from tests.differential.control.api import Api
from tests.differential.control.puppet import Puppet
from tests.differential.control.scripts import NODE_LETTERS, Script
from tests.differential.servers import Server

LIMIT_S = 90.0
LOOK_S = 0.05
SIDE_BY_SIDE = 16
#: Longer than a second, by which times of objects are told apart, and than the real controllers wait for more changes.
QUIET_S = 1.2


class Failed(Exception):
    """A step could not be done, or what it waits for did not come."""


def play_all(kubeconfig: Path, scripts: Sequence[Script], quiet_s: float = QUIET_S) -> dict[str, Any]:
    """What is there at the end of each script, by its id."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        results = pool.map(lambda script: play(kubeconfig, script, quiet_s), scripts)
        return {script.id: found for script, found in zip(scripts, results, strict=True)}


def play(kubeconfig: Path, script: Script, quiet_s: float) -> dict[str, Any]:
    """What is there at the end of a script; where it failed, also how."""
    namespace = "c" + "".join(random.choices(string.ascii_lowercase, k=7))
    servers = [Server(kubeconfig), Server(kubeconfig)]
    api = Api(servers[0], namespace)
    nodes = [f"{namespace}-{letter}" for letter in NODE_LETTERS[: script.nodes]]
    puppet = Puppet(Api(servers[1], namespace), nodes)
    run = _Run(api, puppet, script, quiet_s)
    failure = ""
    try:
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        run.wait("the default service account", lambda: api.get("serviceaccounts", "default").code == 200)
        puppet.start()
        try:
            run.steps()
            run.settle()
        except Failed as e:
            failure = str(e).replace(namespace, "{ns}")
        found = snapshots.take(api, script.keep, script.alike)
        if failure:
            found["failure"] = failure
        return found
    finally:
        api.delete("namespaces", namespace)
        puppet.stop()
        for server in servers:
            server.close()


class _Run:
    def __init__(self, api: Api, puppet: Puppet, script: Script, quiet_s: float) -> None:
        self._api = api
        self._puppet = puppet
        self._script = script
        self._quiet_s = quiet_s

    def steps(self) -> None:
        for number, step in enumerate(self._script.steps, 1):
            text = json.dumps(step).replace("{ns}", self._api.namespace)
            self._do(number, json.loads(text))

    def _do(self, number: int, step: Mapping[str, Any]) -> None:
        about = f"step {number}"
        if "create" in step:
            for obj in step["create"] if isinstance(step["create"], list) else [step["create"]]:
                answer = self._api.create(obj)
                if answer.code != 201:
                    raise Failed(f"{about}: {answer.code} {answer.body}")
        elif "patch" in step:
            resource, _, name = step["patch"].partition("/")

            def patched() -> bool:
                answer = self._api.patch(resource, name, step["with"], step.get("subresource", ""))
                if answer.code in (404, 409):
                    return False
                if answer.code != 200:
                    raise Failed(f"{about}: {answer.code} {answer.body}")
                return True

            self.wait(about, patched)
        elif "delete" in step:
            resource, _, name = step["delete"].partition("/")
            answer = self._api.delete(resource, name, step.get("with"))
            if answer.code not in (200, 202):
                raise Failed(f"{about}: {answer.code} {answer.body}")
        elif "play" in step:
            self._puppet.play(step["play"])
        elif "wait" in step:
            self.wait(f"{about}: {step}", lambda: self._holds(step))
        elif "settle" in step:
            self.settle()
        else:
            raise Failed(f"{about}: what is {sorted(step)}?")

    def _holds(self, step: Mapping[str, Any]) -> bool:
        resource, _, name = step["wait"].partition("/")
        if not name:
            selector = ",".join(f"{key}={value}" for key, value in (step.get("labels") or {}).items())
            fitting = [
                obj for obj in self._api.list(resource, selector) if "at" not in step or _at(obj, step["at"]) == step["is"]
            ]
            return len(fitting) == step["are"]
        answer = self._api.get(resource, name)
        if step.get("gone"):
            return answer.code == 404
        return answer.code == 200 and _at(answer.body, step["at"]) == step["is"]

    def wait(self, what: str, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT_S
        while not holds():
            if time.monotonic() > end:
                raise Failed(f"not within {LIMIT_S:g} s: {what}")
            time.sleep(LOOK_S)

    def settle(self) -> None:
        """Waits until nothing that is kept has changed for a while, and nothing new was told.

        The while is counted in looks, as many as fit into it: on a busy machine they take longer, as what is waited for does.
        """
        end = time.monotonic() + LIMIT_S
        before, alike = "", 0
        while alike * LOOK_S < self._quiet_s:
            if time.monotonic() > end:
                raise Failed("it never settled")
            told = [event["metadata"]["name"] for event in self._api.list("events")]
            found = json.dumps([told, *(snapshots.versions(self._api.list(resource)) for resource in self._script.keep)])
            alike = alike + 1 if found == before else 0
            before = found
            time.sleep(LOOK_S)


def _at(obj: Any, path: str) -> Any:
    """The value at a path such as `status.conditions[type=Ready].status`, `\\.` for a dot in a name; None where nothing is."""
    for part in re.split(r"(?<!\\)\.", path):
        name, _, wanted = part.replace("\\.", ".").partition("[")
        obj = obj.get(name) if isinstance(obj, dict) else None
        if wanted:
            key, _, value = wanted.removesuffix("]").partition("=")
            obj = next((item for item in obj or () if str(item.get(key)) == value), None)
    return obj
