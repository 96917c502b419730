"""What only real containers can show of pods: what a process finds around it, and that it outlives its agent."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubelite.agent import eviction, housekeeping, thresholds
from kubelite.meta.types import Obj
from kubelite.rpc import node_pb2 as pb
from runtimes import containerd
from runtimes.interface import BackendOptions
from runtimes.suite import IMAGE, chunks, cni_configuration, remove_network, suite_image
from tests.agent.conftest import NODE, Cluster, status_of

pytestmark = [pytest.mark.containerd, pytest.mark.root, pytest.mark.slow]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackendOptions]:
    directory = tmp_path_factory.mktemp("runtime")
    cni_configuration(directory / "cni", "10.212.0.0/24")
    made = BackendOptions(state_dir=str(directory / "state"), cni_conf_dir=str(directory / "cni"))
    yield made
    daemon = containerd.Backend(made).daemon
    assert daemon is not None
    asyncio.run(daemon.remove())
    remove_network(directory / "cni")


@pytest.fixture
async def cluster(options: BackendOptions, tmp_path: Path) -> AsyncIterator[Cluster]:
    runtime = containerd.Backend(options)
    await runtime.start()
    if await runtime.image_status(IMAGE) is None:
        await runtime.import_image(chunks(suite_image()))
    async with Cluster(tmp_path, runtime) as made:
        yield made
        for pod in (await made.client.list("pods", "default")).items:
            await made.client.delete("pods", pod["metadata"]["name"], "default", grace_period_s=1)

        async def clean() -> bool:
            return not await runtime.list_sandboxes()

        await made.until(clean, "every sandbox to be removed")
    await runtime.stop()


def container(script: str, name: str = "c", **fields: Any) -> Obj:
    return {"name": name, "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script], **fields}


FOREVER = "trap 'exit 0' TERM; sleep 1000 & wait"


async def output(cluster: Cluster, *containers: Obj, **spec: Any) -> str:
    """What a pod's container `c` says before it ends well."""
    await cluster.run_pod(*containers, restartPolicy="Never", **spec)
    pod = await cluster.until_pod(lambda p: p["status"]["phase"] in ("Succeeded", "Failed"))
    chunks = await cluster.nodes.open_logs(NODE, pb.Logs(namespace="default", pod="web", container="c"))
    text = b"".join([chunk async for chunk in chunks]).decode()
    assert pod["status"]["phase"] == "Succeeded", (text, pod["status"])
    return text


async def test_a_process_runs_as_who_and_with_what_the_spec_says(cluster: Cluster) -> None:
    script = """
        id; grep -E 'NoNewPrivs|Seccomp:|CapEff' /proc/self/status; touch /x 2>/dev/null || echo read-only
        touch /d/file && stat -c %g /d/file; hostname; cat /etc/hosts
    """
    own = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    made = container(script, securityContext=own, volumeMounts=[{"name": "d", "mountPath": "/d"}])
    level = {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "seccompProfile": {"type": "RuntimeDefault"}}
    aliases = [{"ip": "192.0.2.9", "hostnames": ["friend"]}]
    volumes = [{"name": "d", "emptyDir": {}}]
    text = await output(cluster, made, securityContext=level, volumes=volumes, hostAliases=aliases, hostname="named")
    assert "uid=1000 gid=3000 groups=2000,3000" in text
    assert "NoNewPrivs:\t1" in text
    assert "Seccomp:\t2" in text
    assert "CapEff:\t0000000000000000" in text
    assert "read-only\n2000\nnamed\n" in text
    assert "192.0.2.9\tfriend" in text


async def test_volumes_and_environment_reach_the_process(cluster: Cluster) -> None:
    meta = {"name": "m", "namespace": "default"}
    await cluster.client.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"k": "v"}})
    script = "cat /m/k /one; echo; echo $K $IP; cat /etc/resolv.conf"
    mounts = [{"name": "m", "mountPath": "/m"}, {"name": "m", "mountPath": "/one", "subPath": "k"}]
    env = [
        {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    text = await output(
        cluster, container(script, volumeMounts=mounts, env=env), volumes=[{"name": "m", "configMap": {"name": "m"}}]
    )
    assert text.startswith("vv\nv 10.212.0.")
    assert "nameserver 10.96.0.10" in text


async def test_what_a_container_leaves_is_its_message(cluster: Cluster) -> None:
    said = container("echo why > /dev/termination-log; exit 1", "said")
    logged = container("echo last words; exit 1", "logged", terminationMessagePolicy="FallbackToLogsOnError")
    await cluster.run_pod(said, logged, restartPolicy="Never")
    pod = await cluster.until_pod(lambda p: p["status"]["phase"] == "Failed")
    messages = {n: status_of(pod, n)["state"]["terminated"]["message"] for n in ("said", "logged")}
    assert messages == {"said": "why\n", "logged": "last words\n"}


async def test_limits_are_the_kernels(cluster: Cluster) -> None:
    script = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; exit 0"
    text = await output(cluster, container(script, resources={"limits": {"memory": "32Mi", "cpu": "500m"}}))
    assert text.split() == ["33554432"]


async def test_a_container_that_outgrows_its_memory_says_why_it_ended(cluster: Cluster) -> None:
    made = container("x=a; while true; do x=$x$x; done", resources={"limits": {"memory": "16Mi"}})
    await cluster.run_pod(made, restartPolicy="Never")
    pod = await cluster.until_pod(lambda p: status_of(p)["state"]["terminated"]["reason"] == "OOMKilled")
    assert status_of(pod)["state"]["terminated"]["exitCode"] == 137


async def test_an_init_container_prepares_what_the_next_one_finds(cluster: Cluster) -> None:
    mount = {"volumeMounts": [{"name": "d", "mountPath": "/d"}]}
    init = [container("echo prepared > /d/f", "i", **mount)]
    text = await output(cluster, container("cat /d/f", **mount), initContainers=init, volumes=[{"name": "d", "emptyDir": {}}])
    assert text == "prepared\n"


async def test_probes_see_a_pods_own_address_and_its_failures(cluster: Cluster) -> None:
    get = {"httpGet": {"path": "/index.html", "port": 8080}, "periodSeconds": 1}
    alive = {"exec": {"command": ["test", "!", "-e", "/broken"]}, "periodSeconds": 1, "failureThreshold": 1}
    script = f"mkdir /w; echo ok > /w/index.html; httpd -p 8080 -h /w; {FOREVER}"
    await cluster.run_pod(container(script, readinessProbe=get, livenessProbe=alive), terminationGracePeriodSeconds=1)
    pod = await cluster.until_pod(lambda p: status_of(p)["ready"])
    id_ = status_of(pod)["containerID"].removeprefix("containerd://")
    await cluster.runtime.exec_sync(id_, ["touch", "/broken"], 5)
    await cluster.until_pod(lambda p: status_of(p)["restartCount"] == 1 and status_of(p)["ready"])


async def test_containers_outlive_their_agent_and_are_taken_up_again(cluster: Cluster) -> None:
    await cluster.run_pod(container(FOREVER))
    before = await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    await cluster.stop_agent()
    await cluster.start_agent()
    # What the new agent takes up it also ends; and nothing was restarted meanwhile.
    worker = cluster.agent.pods.worker("default", "web")
    assert worker is not None
    record = worker.observed.newest("c") or next(iter(worker.records.values()))
    assert status_of(before)["containerID"] == f"containerd://{record.id}"
    assert record.restarts == 0
    await cluster.client.delete("pods", "web", "default", grace_period_s=1)
    await cluster.until_gone()


async def test_a_log_is_followed_until_the_container_ends(cluster: Cluster) -> None:
    await cluster.run_pod(container("read line; echo got $line", stdin=True, stdinOnce=True), restartPolicy="Never")
    await cluster.until_pod(lambda p: "running" in status_of(p)["state"])
    asked = pb.Logs(namespace="default", pod="web", container="c", follow=True)
    chunks = await cluster.nodes.open_logs(NODE, asked)
    attach = pb.Attach(namespace="default", pod="web", container="c", stdin=True, stdout=True)
    stream = await cluster.nodes.open_stream(NODE, attach)
    await stream.write(pb.TunnelFrame(stdin=b"it\n"))
    async with asyncio.timeout(30), contextlib.aclosing(chunks):
        assert b"".join([chunk async for chunk in chunks]) == b"got it\n"
    await stream.close()


async def test_pods_that_take_too_much_of_the_disk_are_evicted(cluster: Cluster) -> None:
    mount = {"volumeMounts": [{"name": "d", "mountPath": "/d"}]}
    filling = container(f"dd if=/dev/zero of=/d/file bs=1M count=2; {FOREVER}", **mount)
    await cluster.run_pod(filling, name="volume", volumes=[{"name": "d", "emptyDir": {"sizeLimit": "1Mi"}}])
    limits = {"resources": {"limits": {"ephemeral-storage": "5Mi"}}}
    await cluster.run_pod(container(f"dd if=/dev/zero of=/file bs=1M count=10; {FOREVER}", **limits), name="layer")

    async def evicted() -> list[Obj]:
        await eviction.check(cluster.agent.context, cluster.agent.pods)
        pods = [await cluster.pod(name) for name in ("volume", "layer")]
        return [pod for pod in pods if pod is not None and pod["status"].get("reason") == "Evicted"]

    async def both() -> bool:
        return len(await evicted()) == 2

    await cluster.until(both, "both to be evicted")
    messages = [pod["status"]["message"] for pod in await evicted()]
    assert messages == [
        'Usage of EmptyDir volume "d" exceeds the limit "1Mi". ',
        "Pod ephemeral local storage usage exceeds the total limit of containers 5Mi. ",
    ]
    assert all(pod["status"]["phase"] == "Failed" for pod in await evicted())


async def test_a_node_that_is_short_of_memory_evicts_a_pod_and_refuses_others(cluster: Cluster) -> None:
    await cluster.run_pod(container(FOREVER), terminationGracePeriodSeconds=600)
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    await cluster.stop_agent()
    cluster.eviction_hard = thresholds.parse("memory.available<1Ei")  # no machine has it
    await cluster.start_agent()
    await cluster.agent.pressure.check()
    pod = await cluster.until_pod(lambda p: p["status"]["phase"] == "Failed")
    size = "[0-9]+(Ki|Mi|Gi)?"
    text = rf"The node was low on resource: memory\. Threshold quantity: 1Ei, available: {size}\. "
    text += rf"Container c was using {size}, request is 0, has larger consumption of memory\. "
    assert pod["status"]["reason"] == "Evicted"
    assert re.fullmatch(text, pod["status"]["message"])
    condition = next(c for c in pod["status"]["conditions"] if c["type"] == "DisruptionTarget")
    assert (condition["reason"], condition["message"]) == ("TerminationByKubelet", pod["status"]["message"])

    await cluster.run_pod(container(FOREVER), name="late")
    late = await cluster.until_pod(lambda p: p["status"]["phase"] == "Failed", "late")
    assert late["status"]["message"] == "Pod was rejected: The node had condition: [MemoryPressure]. "

    worker = cluster.agent.pods.worker("default", "web")
    assert worker is not None
    await worker.ended.wait()
    await housekeeping.remove_ended(cluster.agent.context, cluster.agent.pods)
    assert not await cluster.runtime.list_containers()
    left = await cluster.pod()
    assert left is not None and left["status"]["message"] == pod["status"]["message"]
