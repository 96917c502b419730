"""Pods on a node with the fake runtime, from the API's side."""

import orjson
import pytest

from kubelite.meta.errors import BadRequest
from kubelite.rpc import node_pb2 as pb
from tests.agent.conftest import NODE, Cluster, container, status_of


async def test_a_node_registers_with_its_capacity_and_becomes_ready(cluster: Cluster) -> None:
    async def ready() -> bool:
        node = await cluster.client.get("nodes", NODE)
        return any(c["type"] == "Ready" and c["status"] == "True" for c in node.get("status", {}).get("conditions", ()))

    await cluster.until(ready, "the node to be ready")
    node = await cluster.client.get("nodes", NODE)
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == NODE
    assert node["status"]["capacity"]["pods"] == "110"
    assert {"type": "InternalIP", "address": "192.0.2.7"} in node["status"]["addresses"]

    async def leased() -> bool:
        leases = await cluster.client.list("leases.coordination.k8s.io", "kube-node-lease")
        return [lease["metadata"]["name"] for lease in leases.items] == [NODE]

    await cluster.until(leased, "the node's lease")


async def test_a_pod_runs_and_its_status_says_so(cluster: Cluster) -> None:
    await cluster.run_pod()
    pod = await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    status = pod["status"]
    assert status["podIP"].startswith("10.88.")
    assert status["hostIP"] == "192.0.2.7"
    assert status["qosClass"] == "BestEffort"
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "Ready": "True",
        "ContainersReady": "True",
        "PodScheduled": "True",
    }
    c = status_of(pod)
    assert c["ready"] is True
    assert c["started"] is True
    assert c["restartCount"] == 0
    assert c["containerID"].startswith("fake://")

    async def told() -> bool:
        return {"Pulled", "Created", "Started"} <= set(await cluster.reasons())

    await cluster.until(told, "the events of a start")


async def test_a_deleted_pod_ends_and_is_removed(cluster: Cluster) -> None:
    await cluster.run_pod()
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    await cluster.client.delete("pods", "web", "default")
    await cluster.until_gone()

    async def clean() -> bool:
        return not await cluster.runtime.list_sandboxes()

    await cluster.until(clean, "the sandbox to be removed")
    assert not (cluster.path / "node" / "pods").joinpath("web").exists()


async def test_a_deleted_pod_that_a_finalizer_keeps_is_reported_once(cluster: Cluster) -> None:
    await cluster.run_pod()
    pod = await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    await cluster.client.patch("pods", "web", "default", {"metadata": {"finalizers": ["example.com/hold"]}})
    await cluster.client.delete("pods", "web", "default", grace_period_s=1)
    ended = await cluster.until_pod(lambda p: p["metadata"].get("deletionGracePeriodSeconds") == 0, what="the end")
    assert ended["status"]["phase"] == "Failed"
    # Were it taken for a new pod each time that it changes, its status would go back and forth.
    await cluster.run_pod(name="second")
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running", "second")
    after = await cluster.pod()
    assert after is not None and after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert int(after["metadata"]["resourceVersion"]) - int(ended["metadata"]["resourceVersion"]) < 10
    await cluster.client.patch("pods", "web", "default", {"metadata": {"finalizers": None}})
    await cluster.until_gone()


@pytest.mark.slow
async def test_a_container_that_fails_is_restarted_at_once_and_then_backs_off(cluster: Cluster) -> None:
    await cluster.run_pod(container("c", "sh", "-c", "exit 3"))
    pod = await cluster.until_pod(
        lambda p: status_of(p)["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff", what="back-off"
    )
    c = status_of(pod)
    assert c["restartCount"] == 1
    assert c["lastState"]["terminated"]["exitCode"] == 3
    assert c["state"]["waiting"]["message"].startswith("back-off 10s restarting failed container=c pod=web_default(")
    assert pod["status"]["phase"] == "Running"


async def test_a_pod_that_never_restarts_succeeds_or_fails(cluster: Cluster) -> None:
    await cluster.run_pod(container("c", "true"), name="good", restartPolicy="Never")
    await cluster.run_pod(container("c", "sh", "-c", "exit 2"), name="bad", restartPolicy="Never")
    good = await cluster.until_pod(lambda p: p["status"]["phase"] == "Succeeded", "good")
    assert status_of(good)["state"]["terminated"]["reason"] == "Completed"
    bad = await cluster.until_pod(lambda p: p["status"]["phase"] == "Failed", "bad")
    assert status_of(bad)["state"]["terminated"]["exitCode"] == 2


async def test_init_containers_run_one_after_the_other_before_the_others(cluster: Cluster) -> None:
    init = [container("first", "true"), container("second", "true")]
    await cluster.run_pod(initContainers=init)
    pod = await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    ends = [s["state"]["terminated"]["reason"] for s in pod["status"]["initContainerStatuses"]]
    assert ends == ["Completed", "Completed"]


async def test_an_agent_that_starts_anew_restarts_nothing(cluster: Cluster) -> None:
    await cluster.run_pod()
    before = await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    await cluster.stop_agent()
    await cluster.start_agent()
    await cluster.run_pod(name="second")
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running", "second")
    after = await cluster.pod()
    assert after is not None
    assert status_of(after)["containerID"] == status_of(before)["containerID"]
    assert len(await cluster.runtime.list_containers()) == 2


async def test_an_agent_that_starts_anew_keeps_volumes_up_to_date(cluster: Cluster) -> None:
    meta = {"name": "m", "namespace": "default"}
    await cluster.client.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"k": "old"}})
    await cluster.run_pod(volumes=[{"name": "v", "configMap": {"name": "m"}}])
    pod = await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    file = next((cluster.path / "node").glob(f"*/{pod['metadata']['uid']}/volumes/*/v/k"))
    await cluster.stop_agent()
    await cluster.client.patch("configmaps", "m", "default", {"data": {"k": "while away"}})
    await cluster.start_agent()

    async def reads(text: str) -> bool:
        return file.read_text() == text

    await cluster.until(lambda: reads("while away"), "what changed meanwhile")
    await cluster.client.patch("configmaps", "m", "default", {"data": {"k": "new"}})
    await cluster.until(lambda: reads("new"), "what changes now")


async def test_a_pod_deleted_while_no_agent_ran_ends_when_one_starts(cluster: Cluster) -> None:
    await cluster.run_pod()
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    await cluster.stop_agent()
    await cluster.client.delete("pods", "web", "default", grace_period_s=0)
    await cluster.start_agent()

    async def clean() -> bool:
        return not await cluster.runtime.list_sandboxes()

    await cluster.until(clean, "the orphan to be removed")


async def test_a_missing_config_map_holds_the_container_until_it_is_there(cluster: Cluster) -> None:
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}}]
    await cluster.run_pod(container(env=env))
    pod = await cluster.until_pod(
        lambda p: status_of(p)["state"].get("waiting", {}).get("reason") == "CreateContainerConfigError", what="the error"
    )
    assert status_of(pod)["state"]["waiting"]["message"] == 'configmap "settings" not found'
    meta = {"name": "settings", "namespace": "default"}
    await cluster.client.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"a": "b"}})
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")


async def read_all(cluster: Cluster, **asked: object) -> str:
    chunks = await cluster.nodes.open_logs(NODE, pb.Logs(namespace="default", pod="web", container="c", **asked))
    return b"".join([chunk async for chunk in chunks]).decode()


async def test_logs_travel_through_the_session(cluster: Cluster) -> None:
    await cluster.run_pod(container("c", "sh", "-c", "echo hello; exit 1"))
    await cluster.until_pod(lambda p: status_of(p)["restartCount"] == 1)
    assert await read_all(cluster) == "hello\n"
    assert await read_all(cluster, previous=True) == "hello\n"
    with pytest.raises(BadRequest, match="container nope is not valid for pod web"):
        await cluster.nodes.open_logs(NODE, pb.Logs(namespace="default", pod="web", container="nope"))


async def test_the_log_of_a_container_that_waits_says_why(cluster: Cluster) -> None:
    cluster.runtime.set(missing_images=["absent"])
    await cluster.run_pod(container("c", image="absent:1"))
    reasons = ("ErrImagePull", "ImagePullBackOff")
    await cluster.until_pod(lambda p: status_of(p)["state"]["waiting"]["reason"] in reasons)
    with pytest.raises(BadRequest, match=r'container "c" in pod "web" is waiting to start: .*pull'):
        await cluster.nodes.open_logs(NODE, pb.Logs(namespace="default", pod="web", container="c"))


async def test_a_commands_output_and_exit_code_travel_through_the_session(cluster: Cluster) -> None:
    await cluster.run_pod()
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    command = ["sh", "-c", "echo out; exit 7"]
    asked = pb.Exec(namespace="default", pod="web", container="c", command=command, stdout=True, stderr=True)
    stream = await cluster.nodes.open_stream(NODE, asked)
    out = b""
    while (frame := await stream.read()) is not None and not frame.HasField("exit"):
        out += frame.stdout
    assert out == b"out\n"
    assert frame is not None
    status = orjson.loads(frame.exit.status_json)
    assert (status["reason"], status["details"]["causes"][0]["message"]) == ("NonZeroExitCode", "7")


async def test_a_node_dials_only_its_own_pods(cluster: Cluster) -> None:
    """CVE-2022-3294, CVE-2020-8562"""
    for host in ("127.0.0.1", "169.254.169.254", "localhost", "10.88.0.99", "::1"):
        stream = await cluster.nodes.open_stream(NODE, pb.Dial(host=host, port=80))
        frame = await stream.read()
        assert frame is not None
        assert orjson.loads(frame.exit.status_json)["status"] == "Failure"


async def test_a_hook_runs_before_a_container_is_stopped(cluster: Cluster) -> None:
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "exit 1"]}}}
    await cluster.run_pod(container(lifecycle=hook), terminationGracePeriodSeconds=5)
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    await cluster.client.delete("pods", "web", "default")
    await cluster.until_gone()

    async def told() -> bool:
        return {"Killing", "FailedPreStopHook"} <= set(await cluster.reasons())

    await cluster.until(told, "the hook's failure")


@pytest.mark.slow
async def test_a_hook_that_outlasts_the_grace_does_not_hold_its_container(cluster: Cluster) -> None:
    hook = {"preStop": {"exec": {"command": ["sleep", "1000"]}}}
    await cluster.run_pod(container(lifecycle=hook), terminationGracePeriodSeconds=1)
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    await cluster.client.delete("pods", "web", "default")
    await cluster.until_gone()
    assert "FailedPreStopHook" not in await cluster.reasons()


async def test_a_container_whose_post_start_hook_fails_is_ended_and_says_what_the_hook_said(cluster: Cluster) -> None:
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "echo out; exit 3"]}}}
    await cluster.run_pod(container(lifecycle=hook))
    pod = await cluster.until_pod(lambda p: status_of(p)["state"]["waiting"]["reason"] == "PostStartHookError")
    where = f'Container "c" in Pod "web_default({pod["metadata"]["uid"]})"'
    what = "Exec lifecycle hook ([sh -c echo out; exit 3])"
    error = "command 'sh -c echo out; exit 3' exited with 3: , message: \"out\\n\""
    assert status_of(pod)["state"]["waiting"]["message"] == f"{what} for {where} failed - error: {error}"

    async def told() -> bool:
        return {"FailedPostStartHook", "Killing"} <= set(await cluster.reasons())

    await cluster.until(told, "the hook's failure")


async def test_a_sandbox_that_cannot_be_made_is_tried_again(cluster: Cluster) -> None:
    cluster.runtime.set(faults={"run_sandbox": "no network"})
    await cluster.run_pod()

    async def told() -> bool:
        return "FailedCreatePodSandBox" in await cluster.reasons()

    await cluster.until(told, "the failure")
    cluster.runtime.set(faults={})
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")


async def test_a_sandbox_that_dies_is_made_anew(cluster: Cluster) -> None:
    await cluster.run_pod()
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    (box,) = await cluster.runtime.list_sandboxes()
    await cluster.runtime.stop_sandbox(box.id)
    pod = await cluster.until_pod(lambda p: p["status"]["phase"] == "Running" and status_of(p)["restartCount"] == 1)
    assert status_of(pod)["ready"] is True


async def test_a_pod_deleted_during_its_start_leaves_nothing(cluster: Cluster) -> None:
    cluster.runtime.set(create_s=0.05)
    await cluster.run_pod()

    async def creating() -> bool:
        return bool(await cluster.runtime.list_sandboxes())

    await cluster.until(creating)
    await cluster.client.delete("pods", "web", "default")
    await cluster.until_gone()

    async def clean() -> bool:
        return not await cluster.runtime.list_sandboxes() and not await cluster.runtime.list_containers()

    await cluster.until(clean, "everything to be removed")


async def test_a_container_that_ends_is_restarted_while_another_still_waits_for_its_image(cluster: Cluster) -> None:
    await cluster.runtime.pull_image("there:1")
    cluster.runtime.set(pull_s=30.0)
    quick = container("quick", image="there:1", imagePullPolicy="IfNotPresent")
    await cluster.run_pod(quick, container("slow", image="slow:1"), terminationGracePeriodSeconds=1)
    pod = await cluster.until_pod(lambda p: "running" in status_of(p, "quick")["state"])
    id_ = status_of(pod, "quick")["containerID"].removeprefix("fake://")
    cluster.runtime.exit_container(id_, 1)
    await cluster.until_pod(lambda p: status_of(p, "quick")["restartCount"] == 1)
    await cluster.client.delete("pods", "web", "default")
    await cluster.until_gone()


async def test_a_container_that_ended_for_want_of_memory_says_so_however_late_the_runtime_learns_it(cluster: Cluster) -> None:
    await cluster.run_pod(restartPolicy="Never")
    pod = await cluster.until_pod(lambda p: "running" in status_of(p)["state"])
    id_ = status_of(pod)["containerID"].removeprefix("fake://")
    cluster.runtime.exit_container(id_, 137)
    pod = await cluster.until_pod(lambda p: p["status"]["phase"] == "Failed")
    ended = status_of(pod)["state"]["terminated"]
    assert ended["reason"] == "Error"
    cluster.runtime.run_out_of_memory(id_)
    pod = await cluster.until_pod(lambda p: status_of(p)["state"]["terminated"]["reason"] == "OOMKilled")
    assert status_of(pod)["state"]["terminated"] == ended | {"reason": "OOMKilled"}


async def test_a_runtime_that_does_not_answer_is_asked_again_until_it_does(cluster: Cluster) -> None:
    await cluster.run_pod()
    await cluster.until_pod(lambda p: p["status"]["phase"] == "Running")
    cluster.runtime.set(faults={"stop_container": "no answer"})
    await cluster.client.delete("pods", "web", "default")

    async def tried() -> bool:
        worker = cluster.agent.pods.worker("default", "web")
        return worker is not None and bool(worker.work._failures) and "FailedKillPod" in await cluster.reasons()

    await cluster.until(tried, "a failed stop that users are told of")
    cluster.runtime.set(faults={})
    await cluster.until_gone()
