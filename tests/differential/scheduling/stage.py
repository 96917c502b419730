"""A stage: an API server on which scenarios are played, one after the other.

Nothing runs on its nodes and no controller runs: what a controller or a kubelet would write stands in the scenarios. Only claims
that a scheduler gave a volume, or a node to be provisioned for, are bound here, as schedulers wait for that.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from kubelite.meta.types import Obj
from tests.differential.scheduling.scenario import KINDS, Step, complete, key_of
from tests.differential.servers import Answer, Server

#: The namespaces that scenarios may use. They stay, as nothing here would empty them.
NAMESPACES = ("default", "team-a", "team-b")
GRACE_S = 3600
SETTLED_LIMIT_S = 30.0
POLL_S = 0.005
SELECTED_NODE = "volume.kubernetes.io/selected-node"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"

#: Objects by kind and key.
There = Mapping[str, Mapping[str, Obj]]


class Stage:
    def __init__(self, server: Server) -> None:
        self.server = server
        #: The kinds of which there may be objects.
        self._kinds = {*KINDS}
        #: Claims that were being provisioned when the scenario began: nobody goes on with them.
        self.stuck: set[str] = set()
        for namespace in NAMESPACES:
            self._send("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}}, allowed=(409,))
            self._send(
                "POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "default"}}, allowed=(409,)
            )

    def _send(
        self, method: str, path: str, body: Any = None, *, form: str = "application/json", allowed: tuple[int, ...] = ()
    ) -> Answer:
        sent = None if body is None else json.dumps(body).encode()
        answer = self.server.send(method, path, sent, {"Content-Type": form})
        if answer.code >= 300 and answer.code not in allowed:
            raise AssertionError(f"{method} {path}: {answer.code} {answer.body}\n{json.dumps(body)}")
        return answer

    # Objects

    def clear(self) -> None:
        """Removes all that scenarios made. Pods first, as nodes and claims are kept while they are in use."""
        for kind in reversed(KINDS):
            if kind == "Namespace":
                continue
            for obj in self._list(kind):
                if kind == "PriorityClass" and obj["metadata"]["name"].startswith("system-"):
                    continue
                if kind == "Service" and obj["metadata"]["name"] in ("kubernetes", "kube-dns"):
                    continue
                self._remove({"kind": kind, **obj})
        self.stuck.clear()
        self._kinds.clear()
        for name in NAMESPACES:
            labels = self._send("GET", f"/api/v1/namespaces/{name}").body["metadata"]["labels"]
            gone = {key: None for key in labels if key != "kubernetes.io/metadata.name"}
            self._merge(f"/api/v1/namespaces/{name}", {"metadata": {"labels": gone}})

    def put(self, obj: Obj) -> None:
        """Creates an object, with its status."""
        self._kinds.add(obj["kind"])
        if obj["kind"] == "Namespace":
            self._merge(_path(obj), {"metadata": {"labels": obj["metadata"].get("labels") or {}}})
            return
        meta = {key: value for key, value in obj["metadata"].items() if key != "deletionTimestamp"}
        made = self._send("POST", _collection(obj), {**obj, "metadata": meta}).body
        if obj["kind"] == "Node":  # without the taint that every node has until it is ready
            made["spec"]["taints"] = (obj.get("spec") or {}).get("taints")
            made = self._send("PUT", _path(obj), made).body
        if obj.get("status") and obj["kind"] != "CSIStorageCapacity":
            self._send("PUT", f"{_path(obj)}/status", {**made, "status": {**(made.get("status") or {}), **obj["status"]}})
        if SELECTED_NODE in (obj["metadata"].get("annotations") or {}):
            self.stuck.add(obj["metadata"]["name"])
        if "deletionTimestamp" in obj["metadata"]:
            self._send("DELETE", _path(obj), {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": GRACE_S})

    def do(self, step: Step) -> None:
        match step.verb:
            case "create":
                self.put(step.obj)
            case "update":
                self._update(step.obj)
            case "delete":
                found = self._send("GET", _path(step.obj), allowed=(404,))
                if found.code != 404:
                    self._remove({**found.body, "kind": step.obj["kind"]})

    def _update(self, obj: Obj) -> None:
        """Brings an object to what the scenario says of it; what it doesn't mention stays. A node that is gone comes back, of
        anything else that is gone there is nothing to change."""
        found = self._send("GET", _path(obj), allowed=(404,))
        if found.code == 404:
            if obj["kind"] == "Node":
                self.put(obj)
            return
        if obj["kind"] == "Node":
            now = found.body
            wanted = {**now, "metadata": {**now["metadata"], "labels": obj["metadata"]["labels"]}, "spec": obj.get("spec") or {}}
            self._send("PUT", _path(obj), wanted)
            self._merge(f"{_path(obj)}/status", {"status": obj["status"]})
            return
        body = {key: value for key, value in obj.items() if key != "status"}
        self._merge(_path(obj), body)
        if obj.get("status"):
            self._merge(f"{_path(obj)}/status", {"status": obj["status"]})

    def bind(self, pod: Obj, node: str) -> None:
        """Puts a pod in the place of a pod of that name that went to another node."""
        self._remove(pod)
        self.put({**pod, "spec": {**pod["spec"], "nodeName": node}})

    def _remove(self, obj: Obj) -> None:
        if obj["metadata"].get("finalizers"):
            self._merge(_path(obj), {"metadata": {"finalizers": None}})
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "propagationPolicy": "Background"}
        self._send("DELETE", _path(obj), body, allowed=(404,))

    def _merge(self, path: str, body: Any) -> None:
        self._send("PATCH", path, body, form="application/merge-patch+json")

    def _list(self, kind: str) -> list[Obj]:
        if kind not in self._kinds:
            return []
        version, resource, _ = KINDS[kind]
        items: list[Obj] = self._send("GET", f"{_root(version)}/{resource}").body.get("items") or []
        return items

    # What became of the pods

    def pods(self) -> dict[str, Obj]:
        return {key_of(pod): pod for pod in self._list("Pod")}

    def settled(self, watched: Mapping[str, Obj], changed: str, is_idle: Callable[[There], bool]) -> dict[str, Obj]:
        """The pods once each of `watched` has a node or a reason why not, and the scheduler is idle, asked twice with nothing
        changed between. `changed` is the kind that the last step changed."""
        kinds = dict.fromkeys(("Pod", "PersistentVolumeClaim", "PersistentVolume", changed))
        end = time.monotonic() + SETTLED_LIMIT_S
        before: object = None
        while True:
            self._bind_claims()
            there = {kind: {key_of(obj): obj for obj in self._list(kind)} for kind in kinds}
            pods = there["Pod"]
            now = revisions(there)
            idle = is_idle(there) and all(_is_decided(pods[key]) for key in watched if key in pods)
            if idle and now == before:
                return dict(pods)
            if time.monotonic() > end:
                raise TimeoutError("the scheduler does not come to rest")
            before = now if idle else None
            time.sleep(POLL_S)

    def _bind_claims(self) -> None:
        claims = [claim for claim in self._list("PersistentVolumeClaim") if not claim["spec"].get("volumeName")]
        volumes = self._list("PersistentVolume") if claims else []
        for claim in claims:
            meta = claim["metadata"]
            volume = next((v for v in volumes if (v["spec"].get("claimRef") or {}).get("uid") == meta["uid"]), None)
            if volume is None and SELECTED_NODE in (meta.get("annotations") or {}) and meta["name"] not in self.stuck:
                reference = {"namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}
                source = {
                    "capacity": claim["spec"]["resources"]["requests"],
                    "hostPath": {"path": "/data"},
                    "claimRef": reference,
                }
                wanted = {name: claim["spec"].get(name) for name in ("accessModes", "storageClassName", "volumeMode")}
                volume = complete("PersistentVolume", {"name": f"provisioned-{meta['name']}", "spec": {**source, **wanted}})
                self.put(volume)
            if volume is not None:
                bound = {"annotations": {BIND_COMPLETED: "yes"}}
                path = _path({"kind": "PersistentVolumeClaim", **claim})
                self._merge(path, {"metadata": bound, "spec": {"volumeName": volume["metadata"]["name"]}})


def revisions(there: There) -> dict[str, dict[str, str]]:
    return {kind: {key: obj["metadata"]["resourceVersion"] for key, obj in objs.items()} for kind, objs in there.items()}


def _is_decided(pod: Obj) -> bool:
    if pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp"):
        return True
    return any(c["type"] == "PodScheduled" for c in (pod.get("status") or {}).get("conditions") or ())


def _root(version: str) -> str:
    return f"/api/{version}" if version == "v1" else f"/apis/{version}"


def _collection(obj: Obj) -> str:
    version, resource, namespaced = KINDS[obj["kind"]]
    return (
        f"{_root(version)}/namespaces/{obj['metadata']['namespace']}/{resource}" if namespaced else f"{_root(version)}/{resource}"
    )


def _path(obj: Obj) -> str:
    return f"{_collection(obj)}/{obj['metadata']['name']}"
