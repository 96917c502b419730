"""What nodes would do, played: a script's pods are placed, run, fail and end as its rules say, at once and always alike."""

import fnmatch
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.differential.control.api import Api

LOOK_S = 0.05
HEARTBEAT_S = 10.0
INDEX = "batch.kubernetes.io/job-completion-index"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


class Puppet:
    """Plays one script's nodes in a thread of its own."""

    def __init__(self, api: Api, nodes: Sequence[str]) -> None:
        self._api = api
        self._nodes = nodes
        self._rules: Sequence[Mapping[str, Any]] = ()
        #: By pod: what was chosen for it by a rule that holds only so often.
        self._chosen: dict[str, Mapping[str, Any]] = {}
        self._addresses: dict[str, str] = {}
        self._beat_at = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._live, name=f"puppet of {api.namespace}", daemon=True)

    def start(self) -> None:
        for index, name in enumerate(self._nodes):
            self._make_node(name, index)
        self._thread.start()

    def play(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """From now on these rules count."""
        self._rules = rules

    def stop(self) -> None:
        self._end.set()
        self._thread.join()
        for name in self._nodes:
            self._api.delete("nodes", name)

    def _live(self) -> None:
        while not self._end.wait(LOOK_S):
            self._beat()
            pods = self._api.list("pods")
            for pod in sorted(pods, key=lambda p: (p["metadata"]["creationTimestamp"], p["metadata"]["name"])):
                self._move(pod, pods)

    def _make_node(self, name: str, index: int) -> None:
        zone = {"topology.kubernetes.io/zone": f"zone-{name[-1]}", "of": self._api.namespace}
        self._api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": zone}})
        now = _now()
        sure = {"lastHeartbeatTime": now, "lastTransitionTime": now, "reason": "Played", "message": "played"}
        conditions = [{"type": t, "status": "False", **sure} for t in ("MemoryPressure", "DiskPressure", "PIDPressure")]
        conditions.append({"type": "Ready", "status": "True", **sure})
        resources = {"cpu": "4", "memory": "8Gi", "pods": "110"}
        self._api.patch(
            "nodes", name, {"status": {"conditions": conditions, "allocatable": resources, "capacity": resources}}, "status"
        )

    def _beat(self) -> None:
        if time.monotonic() < self._beat_at:
            return
        self._beat_at = time.monotonic() + HEARTBEAT_S
        leases = Api(self._api.server, "kube-node-lease")
        for name in self._nodes:
            spec = {
                "holderIdentity": name,
                "leaseDurationSeconds": 40,
                "renewTime": datetime.now(UTC).isoformat(timespec="microseconds"),
            }
            spec["renewTime"] = str(spec["renewTime"]).replace("+00:00", "Z")
            if leases.patch("leases.coordination.k8s.io", name, {"spec": spec}).code == 404:
                body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}
                leases.create(body)

    def _move(self, pod: dict[str, Any], pods: Sequence[dict[str, Any]]) -> None:
        meta, rule = pod["metadata"], self._rule(pod)
        phase = pod.get("status", {}).get("phase", "Pending")
        what, _, number = str(rule.get("as", "run")).partition(":")
        if "deletionTimestamp" in meta:
            if what != "linger":
                self._take_away(pod, phase)
        elif not pod["spec"].get("nodeName"):
            if what != "unscheduled" and self._nodes:
                node = _meant_for(pod) or min(self._nodes, key=lambda n: (sum(p["spec"].get("nodeName") == n for p in pods), n))
                target = {
                    "apiVersion": "v1",
                    "kind": "Binding",
                    "metadata": {"name": meta["name"]},
                    "target": {"kind": "Node", "name": node},
                }
                if self._api.post("pods", meta["name"], "binding", target).code == 201:
                    pod["spec"]["nodeName"] = node
        elif phase not in ("Succeeded", "Failed") and what != "pending":
            self._report(pod, what, int(number or 1))

    def _rule(self, pod: Mapping[str, Any]) -> Mapping[str, Any]:
        uid, meta = pod["metadata"]["uid"], pod["metadata"]
        for rule in self._rules:
            if not _fits(rule, meta):
                continue
            if "most" not in rule:
                return rule
            used = sum(chosen is rule for chosen in self._chosen.values())
            if self._chosen.get(uid) is rule or (uid not in self._chosen and used < rule["most"]):
                self._chosen[uid] = rule
                return rule
        return {}

    def _take_away(self, pod: Mapping[str, Any], phase: str) -> None:
        """Ends the pod's containers, then lets it go; one with finalizers of others stays as it is then."""
        meta = pod["metadata"]
        if phase not in ("Succeeded", "Failed"):
            self._report(pod, "fail", 137)
        elif meta.get("deletionGracePeriodSeconds"):
            self._api.delete("pods", meta["name"], {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}})

    def _report(self, pod: Mapping[str, Any], what: str, number: int) -> None:
        """Writes the status that the rule wants, where it is another one."""
        status, name = pod.get("status", {}), pod["metadata"]["name"]
        phase = {"succeed": "Succeeded", "fail": "Failed", "disrupted": "Failed"}.get(what, "Running")
        ready = phase == "Running" and what != "unready"
        restarts = number if what == "restart" else 0
        listed = {c["type"]: c for c in status.get("conditions") or ()}
        seen = status.get("phase"), listed.get("Ready", {}).get("status") == "True", _restarts(status)
        if seen == (phase, ready, restarts) and "podIP" in status:
            return
        now = _now()
        wanted = {"Initialized": True, "Ready": ready, "ContainersReady": ready, "PodScheduled": True}
        if what == "disrupted":
            wanted["DisruptionTarget"] = True
        conditions = []
        for type_, value in wanted.items():
            old = listed.pop(type_, None)
            since = old["lastTransitionTime"] if old and old["status"] == str(value) else now
            conditions.append({"type": type_, "status": str(value), "lastTransitionTime": since})
        state: dict[str, Any] = {"running": {"startedAt": now}}
        if phase != "Running":
            code = 0 if phase == "Succeeded" else number
            state = {
                "terminated": {
                    "exitCode": code,
                    "startedAt": now,
                    "finishedAt": now,
                    "reason": "Completed" if not code else "Error",
                }
            }
        containers = [
            {"name": c["name"], "image": c["image"], "imageID": "", "ready": ready, "restartCount": restarts, "state": state}
            for c in pod["spec"]["containers"]
        ]
        address = self._addresses.setdefault(
            pod["metadata"]["uid"], f"10.77.{len(self._addresses) // 200}.{len(self._addresses) % 200 + 1}"
        )
        change = {"phase": phase, "conditions": [*conditions, *listed.values()], "containerStatuses": containers}
        change |= {"podIP": address, "podIPs": [{"ip": address}], "startTime": status.get("startTime", now)}
        self._api.patch("pods", name, {"metadata": {"uid": pod["metadata"]["uid"]}, "status": change}, "status")


def _fits(rule: Mapping[str, Any], meta: Mapping[str, Any]) -> bool:
    if not (rule.get("labels") or {}).items() <= (meta.get("labels") or {}).items():
        return False
    if "index" in rule and (meta.get("annotations") or {}).get(INDEX) != str(rule["index"]):
        return False
    return fnmatch.fnmatchcase(meta["name"], rule.get("name", "*"))


def _meant_for(pod: Mapping[str, Any]) -> str:
    """The node that a DaemonSet's pod is bound to by its affinity."""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    for term in (affinity.get(REQUIRED) or {}).get("nodeSelectorTerms") or ():
        for requirement in term.get("matchFields") or ():
            return str(requirement["values"][0])
    return ""


def _restarts(status: Mapping[str, Any]) -> int:
    return max((c["restartCount"] for c in status.get("containerStatuses") or ()), default=0)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
