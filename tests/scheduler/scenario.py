"""One scenario for any API server with a scheduler: four nodes, pods that run there already, and pods that ask for a place.

`outcomes(client)` says what became of each: its node, or why it waits. tests/scheduler/kubernetes-1.34.json has what real
Kubernetes says; `python -m tests.scheduler.scenario SERVER CA_FILE TOKEN` prints it from one that runs (its controllers too:
they lift the not-ready taints).
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from kubelite.client.contract import Client
from kubelite.client.http import HttpClient
from kubelite.meta import times
from kubelite.meta.errors import AlreadyExists, NotFound
from kubelite.meta.types import Obj
from tests.scheduler import objects
from tests.scheduler.objects import HOST, ZONE, anti_affinity, spread

NAMESPACE = "scenario"
PRIORITY_CLASS = "scenario-urgent"
PRIORITY = 1000
TAINT = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}


def nodes() -> list[Obj]:
    made = [
        objects.node("sc-1", cpu="4", memory="8Gi", labels={ZONE: "a", "disk": "ssd", "size": "1"}),
        objects.node("sc-2", cpu="2", memory="8Gi", labels={ZONE: "b", "size": "2"}),
        objects.node("sc-3", cpu="4", memory="8Gi", labels={ZONE: "a"}, taints=[TAINT]),
        objects.node("sc-4", cpu="4", memory="8Gi", labels={"size": "9"}, unschedulable=True),
    ]
    made[0]["status"]["allocatable"]["example.com/gpu"] = "1"
    for node in made:
        node["apiVersion"], node["kind"] = "v1", "Node"
        node["status"]["capacity"] = node["status"]["allocatable"]
    return made


def running() -> list[tuple[Obj, str]]:
    """Pods that are there already, and on which node."""
    web, db = {"app": "web"}, {"app": "db"}
    port = {"ports": [{"containerPort": 80, "hostPort": 8080}]}
    return [
        (objects.pod("old-web", cpu="1", labels=web, container=port, priority=10), "sc-1"),
        (objects.pod("old-db", cpu="500m", labels=db, priority=10), "sc-2"),
        (objects.pod("hermit", labels={"app": "hermit"}, affinity=anti_affinity(ZONE, app="loud"), priority=10), "sc-1"),
    ]


def node_terms(*expressions: Obj) -> Obj:
    terms = [{"matchExpressions": list(expressions)}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def asking() -> list[Obj]:
    """Each fits one node at most, so that real Kubernetes has no choice either."""
    pod, web = objects.pod, {"app": "web"}
    tolerant = [{"key": "dedicated", "operator": "Exists"}]
    claim = [{"name": "data", "persistentVolumeClaim": {"claimName": "missing"}}]
    port = {"ports": [{"containerPort": 80, "hostPort": 8080}]}
    return [
        pod("too-much-cpu", cpu="16"),
        pod("too-much-of-both", cpu="16", memory="64Gi"),
        pod("too-much-tolerant", cpu="16", tolerations=tolerant),
        pod("fits-cpu", cpu="2500m"),
        pod("gpu", requests={"example.com/gpu": "1"}, container={"resources": gpus("1")}),
        pod("gpus", container={"resources": gpus("2")}),
        pod("fpga", container={"resources": {"limits": {"example.com/fpga": "1"}, "requests": {"example.com/fpga": "1"}}}),
        pod("selector-fits", nodeSelector={"size": "2"}),
        pod("selector-none", nodeSelector={"size": "3"}),
        pod("selector-cordoned", nodeSelector={"size": "9"}),
        pod("selector-tainted", nodeSelector={HOST: "sc-3"}),
        pod("selector-tolerated", nodeSelector={HOST: "sc-3"}, tolerations=tolerant),
        pod("affinity-gt", affinity=node_terms({"key": "size", "operator": "Gt", "values": ["1"]})),
        pod("affinity-none", affinity=node_terms({"key": "size", "operator": "In", "values": ["7"]})),
        pod("port-taken", container=port, nodeSelector={HOST: "sc-1"}),
        pod("port-free", container=port),
        pod("anti-hosts", labels={"app": "lonely"}, affinity=anti_affinity(ZONE, app="web"), nodeSelector={ZONE: "a"}),
        pod("anti-existing", labels={"app": "loud"}, nodeSelector={ZONE: "a"}),
        pod("anti-elsewhere", labels={"app": "loud"}),
        pod("near-db", affinity=anti_affinity(HOST, kind="podAffinity", app="db")),
        pod("near-nobody", affinity=anti_affinity(HOST, kind="podAffinity", app="nobody")),
        pod("spread-zones", labels={"app": "spread"}, topologySpreadConstraints=[spread("size", labels=web)]),
        pod("spread-nowhere", labels=web, topologySpreadConstraints=[spread("rack", labels=web)]),
        pod("claim-missing", volumes=claim),
        pod("daemon-fits", cpu="100m", affinity=on_node("sc-2")),
        pod("daemon-too-big", cpu="16", affinity=on_node("sc-2")),
        pod("daemon-tainted", affinity=on_node("sc-3")),
        pod("daemon-of-no-node", affinity=on_node("sc-7")),
        pod("gated", schedulingGates=[{"name": "example.com/quota"}]),
    ]


def on_node(name: str) -> Obj:
    """As the pods of a DaemonSet ask for their node."""
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def preempting() -> Obj:
    """Comes last, as a pod has to go for it."""
    return objects.pod("urgent", cpu="1800m", nodeSelector={"size": "2"}, priorityClassName=PRIORITY_CLASS)


def gpus(count: str) -> Obj:
    return {"limits": {"example.com/gpu": count}, "requests": {"example.com/gpu": count}}


def manifest(pod: Obj) -> Obj:
    """As a client sends it."""
    spec = {k: v for k, v in pod["spec"].items() if k not in ("priority",) and v not in ([], {})}
    meta = {"name": pod["metadata"]["name"], "namespace": NAMESPACE, "labels": pod["metadata"]["labels"]}
    spec["automountServiceAccountToken"] = False
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


async def outcomes(client: Client) -> dict[str, str]:
    """Plays the scenario, one pod after the other, and says what became of each."""
    account = {"name": "default", "namespace": NAMESPACE}
    for resource, obj in (
        ("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        ("serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}),
    ):
        try:
            await client.create(resource, obj)
        except AlreadyExists:
            continue
    priority = {"metadata": {"name": PRIORITY_CLASS}, "value": PRIORITY}
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
    await client.create("priorityclasses.scheduling.k8s.io", {**kind, **priority})
    for node in nodes():
        await client.create("nodes", node)
        now = times.now()
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now, "lastTransitionTime": now}
        await client.patch("nodes", node["metadata"]["name"], "", {"status": {"conditions": [ready]}}, subresource="status")
    for node in nodes():
        await until(client, "nodes", node["metadata"]["name"], "", lambda n: not_ready_is_lifted(n))
    for obj, node_name in running():
        created = manifest(obj)
        created["spec"]["nodeName"] = node_name
        await client.create("pods", created)
    found = {}
    for obj in [*asking(), preempting()]:
        name = obj["metadata"]["name"]
        await client.create("pods", manifest(obj))
        pod = await until(client, "pods", name, NAMESPACE, lambda p: outcome(p))
        found[name] = outcome(pod)
        if name == "urgent":
            victim = await until(client, "pods", "old-db", NAMESPACE, lambda p: p["metadata"].get("deletionTimestamp"))
            found["victim"] = next(c["message"] for c in victim["status"]["conditions"] if c["type"] == "DisruptionTarget")
            nominated = await until(client, "pods", name, NAMESPACE, lambda p: p["status"].get("nominatedNodeName"))
            found["nominated"] = nominated["status"]["nominatedNodeName"]
        await client.delete("pods", name, NAMESPACE, grace_period_s=0)
        await gone(client, name)
    return found


def not_ready_is_lifted(node: Obj) -> bool:
    return not any(t["key"] == "node.kubernetes.io/not-ready" for t in node["spec"].get("taints") or ())


def outcome(pod: Obj) -> str:
    if pod["spec"].get("nodeName"):
        return f"on {pod['spec']['nodeName']}"
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((f"{c['reason']}: {c['message']}" for c in conditions if c["type"] == "PodScheduled"), "")


async def until(client: Client, resource: str, name: str, namespace: str, test: Any) -> Obj:
    async with asyncio.timeout(30):
        while True:
            obj = await client.get(resource, name, namespace)
            if test(obj):
                return obj
            await asyncio.sleep(0.02)


async def gone(client: Client, name: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await client.get("pods", name, NAMESPACE)
            except NotFound:
                return
            await asyncio.sleep(0.02)


async def main(server: str, ca_file: str, token: str) -> None:
    async with HttpClient(server, ca_pem=Path(ca_file).read_bytes(), token=token) as client:
        print(json.dumps(await outcomes(client), indent=2))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
