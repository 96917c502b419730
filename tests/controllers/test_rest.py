"""All controllers together come to rest: none answers its own writes for ever, none undoes another's."""

import asyncio
from typing import Any

import pytest

from kubelite.controllers import CONTROLLERS, Controllers
from kubelite.meta import times
from kubelite.meta.types import Obj
from tests.controllers.conftest import Cluster, pod_template, workload


def named(name: str, spec: Obj, **more: Any) -> Obj:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec, **more}


def of(kind: str, name: str, **spec: Any) -> Obj:
    return workload(kind, name, selector={"matchLabels": {"app": name}}, template=pod_template(name), **spec)


async def fill(cluster: Cluster) -> None:
    """One of everything that controllers write to."""
    create = cluster.client.create
    condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": times.now(), "lastTransitionTime": times.now()}
    await create("nodes", {"metadata": {"name": "n1", "labels": {"kubernetes.io/os": "linux"}}})
    change = {"status": {"conditions": [condition]}}
    await cluster.client.patch("nodes", "n1", "", change, form="strategic", subresource="status")
    storage = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claims = [{"metadata": {"name": "v"}, "spec": storage}]
    await create("deployments.apps", of("Deployment", "d", replicas=2))
    await create("statefulsets.apps", of("StatefulSet", "s", replicas=2, serviceName="s", volumeClaimTemplates=claims))
    await create("daemonsets.apps", of("DaemonSet", "ds"))
    batch = {"template": pod_template("j", restartPolicy="Never")}
    await create("jobs.batch", named("j", {"completions": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 1, **batch}))
    await create("cronjobs.batch", named("cj", {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": batch}}))
    ports = [{"name": "x", "port": 80, "targetPort": "http"}, {"name": "y", "port": 81, "protocol": "UDP"}]
    await create("services", named("one", {"selector": {"app": "d"}, "ports": [{"port": 80}]}))
    await create("services", named("headless", {"clusterIP": "None", "selector": {"app": "s"}}))
    await create("services", named("two", {"type": "NodePort", "selector": {"app": "ds"}, "ports": ports}))
    await create("services", named("ext", {"ports": [{"port": 80}]}))
    subset = {"addresses": [{"ip": "10.1.1.2"}, {"ip": "10.1.1.1"}], "ports": [{"port": 80}]}
    await create("endpoints", {"metadata": {"name": "ext", "namespace": "default"}, "subsets": [subset]})
    budget = {"maxUnavailable": "50%", "selector": {"matchLabels": {"app": "d"}}}
    await create("poddisruptionbudgets.policy", named("b", budget))
    await create("resourcequotas", named("q", {"hard": {"pods": "50", "requests.cpu": "1000m", "services.nodeports": "3"}}))
    spec = {"capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp/x"}}
    await create("persistentvolumes", {"metadata": {"name": "pv"}, "spec": spec})


@pytest.mark.slow
async def test_all_controllers_together_come_to_rest(cluster: Cluster) -> None:
    controllers = cluster.start(*CONTROLLERS.values())
    cluster.run_pods()
    await fill(cluster)
    await cluster.until_count("pods", 6)

    def activity() -> tuple[int, int]:
        return cluster.store.revision, sum(c.queue.statistics()["added"] for c in controllers)

    # At rest: a fifth of a second in which nothing was written and nobody had anything to do.
    before = activity()
    async with asyncio.timeout(30):
        while True:
            await asyncio.sleep(0.2)
            if before == (before := activity()):
                break
    await cluster.until_status("deployments.apps", "d", availableReplicas=2)
    await cluster.until_status("statefulsets.apps", "s", availableReplicas=2)
    assert not [c.name for c in controllers if c.queue.statistics()["backing_off"]]


def test_a_controller_that_is_disabled_is_not_made_and_an_unknown_one_is_an_error(cluster: Cluster) -> None:
    made = Controllers(cluster.env, disabled=["deployment-controller"])
    assert {c.name for c in made.controllers} == {*CONTROLLERS} - {"deployment-controller"}
    assert set(made.statistics()) == {c.name for c in made.controllers}
    with pytest.raises(ValueError, match="there is no controller nonsense"):
        Controllers(cluster.env, disabled=["nonsense"])
