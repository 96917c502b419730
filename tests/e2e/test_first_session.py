"""What a new user does in a first session, with the stock kubectl against a real cluster on containerd, in order."""

import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.machine import ROOT, Machine, eventually

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.containerd, pytest.mark.timeout(300)]

BUSYBOX = "docker.io/library/busybox:1.36"


@pytest.fixture(scope="module")
def web(machine: Machine) -> Iterator[Machine]:
    """The cluster with the example applied and rolled out."""
    machine.kubectl("apply", "-f", str(ROOT / "examples"))
    assert "successfully rolled out" in machine.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    yield machine
    machine.kubectl("delete", "-f", str(ROOT / "examples"), "--ignore-not-found", "--timeout=60s")


def pods(machine: Machine, selector: str = "app=web") -> list[dict]:  # type: ignore[type-arg]
    items = machine.get("pods", "-l", selector)["items"]
    return [p for p in items if "deletionTimestamp" not in p["metadata"]]


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        return str(response.read().decode())


def test_apply_again_changes_nothing(web: Machine) -> None:
    out = web.kubectl("apply", "-f", str(ROOT / "examples"))
    assert "deployment.apps/web unchanged" in out
    assert "created" not in out


def test_get_wide_shows_node_and_address(web: Machine) -> None:
    lines = web.kubectl("get", "pods", "-l", "app=web", "-o", "wide").splitlines()
    assert lines[0].split()[:7] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert len(lines) == 3
    for line in lines[1:]:
        assert "1/1" in line and "Running" in line and re.search(r"10\.249\.\d+\.\d+", line)


def test_describe_tells_the_pods_story(web: Machine) -> None:
    out = web.kubectl("describe", "pods", "-l", "app=web")
    for fact in ("Controlled By:  ReplicaSet/web-", "Successfully assigned default/web-", "Started", "ConfigMap", "QoS Class:"):
        assert fact in out


def test_logs_follow_a_container(web: Machine) -> None:
    name = pods(web)[0]["metadata"]["name"]
    with subprocess.Popen(web.kubectl_command("logs", "-f", name), stdout=subprocess.PIPE, text=True) as follow:
        assert follow.stdout is not None
        assert follow.stdout.readline() == "serving in blue\n"
        follow.terminate()


def test_the_pod_sees_its_config_map_and_secret(web: Machine) -> None:
    name = pods(web)[0]["metadata"]["name"]
    assert web.kubectl("exec", name, "--", "cat", "/etc/web/token") == "not-a-real-secret"
    assert web.kubectl("exec", name, "--", "sh", "-c", "echo $COLOR $TOKEN") == "blue not-a-real-secret\n"


def test_exec_passes_input_and_the_exit_code(web: Machine) -> None:
    name = pods(web)[0]["metadata"]["name"]
    assert web.kubectl("exec", "-i", name, "--", "wc", "-c", stdin="twelve bytes").strip() == "12"
    with pytest.raises(subprocess.CalledProcessError) as failed:
        web.kubectl("exec", name, "--", "sh", "-c", "exit 7")
    assert failed.value.returncode == 7


def test_exec_on_a_terminal_is_interactive(web: Machine) -> None:
    name = pods(web)[0]["metadata"]["name"]
    ours, theirs = pty.openpty()
    command = web.kubectl_command("exec", "-it", name, "--", "sh")
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True) as shell:
        os.close(theirs)
        os.write(ours, b"echo $((6*7))-answer; tty; exit\n")
        seen = b""
        while shell.poll() is None or seen == b"":
            try:
                seen += os.read(ours, 4096)
            except OSError:
                break
        assert shell.wait(10) == 0
    os.close(ours)
    assert b"42-answer" in seen
    assert b"/dev/" in seen


def test_port_forward_reaches_a_pod(web: Machine) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = web.kubectl_command("port-forward", "deployment/web", f"{port}:8080")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forward:
        assert forward.stdout is not None
        assert "Forwarding from" in forward.stdout.readline()
        for _ in range(3):
            assert "It works" in fetch(f"http://127.0.0.1:{port}/")
        forward.terminate()


def test_the_service_answers_on_its_cluster_ip_and_node_port(web: Machine) -> None:
    address = web.get("service", "web")["spec"]["clusterIP"]
    assert "It works" in eventually("the cluster IP answers", lambda: fetch(f"http://{address}/"))
    node = web.get("node", "first")
    internal = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
    assert "It works" in eventually("the node port answers", lambda: fetch(f"http://{internal}:30080/"))


def test_the_service_answers_by_its_name_from_another_pod(web: Machine) -> None:
    web.kubectl("run", "client", f"--image={BUSYBOX}", "--restart=Never", "--command", "--", "sleep", "600")
    web.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
    # nc and not wget: the wget of Debian's static busybox crashes on every URL
    get = r"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 {} 80"
    for name in ("web", "web.default.svc.cluster.local"):
        assert "It works" in web.kubectl("exec", "client", "--", "sh", "-c", get.format(name))
    assert "10.99.0.1" in web.kubectl("exec", "client", "--", "nslookup", "kubernetes.default.svc.cluster.local")
    web.kubectl("delete", "pod", "client", "--now")


def test_scale_and_scale_back(web: Machine) -> None:
    web.kubectl("scale", "deployment/web", "--replicas=4")
    web.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert len(pods(web)) == 4
    web.kubectl("scale", "deployment/web", "--replicas=2")
    eventually("two pods are left", lambda: len(pods(web)) == 2)


def test_rollout_restart_then_undo(web: Machine) -> None:
    before = {p["metadata"]["uid"] for p in pods(web)}
    web.kubectl("rollout", "restart", "deployment/web")
    web.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    eventually("the pods are new ones", lambda: not before & {p["metadata"]["uid"] for p in pods(web)})
    assert "restartedAt" in str(web.get("deployment", "web")["spec"]["template"])
    web.kubectl("rollout", "undo", "deployment/web")
    web.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    assert "restartedAt" not in str(web.get("deployment", "web")["spec"]["template"])
    assert "REVISION" in web.kubectl("rollout", "history", "deployment/web")


def test_edit_with_an_editor(web: Machine) -> None:
    web.kubectl("edit", "configmap", "web", KUBE_EDITOR="sed -i s/blue/green/")
    assert web.get("configmap", "web")["data"]["COLOR"] == "green"


def test_label_and_select(web: Machine) -> None:
    web.kubectl("label", "deployment/web", "tier=front")
    assert web.kubectl("get", "deployments", "-l", "tier=front", "-o", "name") == "deployment.apps/web\n"
    web.kubectl("label", "deployment/web", "tier-")
    assert web.kubectl("get", "deployments", "-l", "tier", "-o", "name") == ""


def test_explain_and_api_resources(web: Machine) -> None:
    out = web.kubectl("explain", "deployment.spec.strategy.rollingUpdate")
    assert "maxSurge" in out and "GROUP:      apps" in out
    listed = web.kubectl("api-resources")
    assert re.search(r"^deployments +deploy +apps/v1 +true +Deployment$", listed, re.M)
    assert re.search(r"^pods +po +v1 +true +Pod$", listed, re.M)


def test_events_name_what_happened(web: Machine) -> None:
    out = web.kubectl("events", "--for", "deployment/web")
    assert "ScalingReplicaSet" in out


def test_bad_input_is_refused_with_field_and_cause(web: Machine) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        web.kubectl("create", "deployment", "Bad_Name", f"--image={BUSYBOX}")
    assert "Invalid value" in failed.value.stderr and "RFC 1123" in failed.value.stderr
    pod = '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containerz":[]}}'
    with pytest.raises(subprocess.CalledProcessError) as failed:
        web.kubectl("apply", "-f", "-", stdin=pod)
    assert 'unknown field "spec.containerz"' in failed.value.stderr


def test_a_container_that_keeps_ending_is_restarted_with_back_off(machine: Machine) -> None:
    machine.kubectl("run", "crash", f"--image={BUSYBOX}", "--command", "--", "sh", "-c", "echo out; exit 3")

    def is_backing_off() -> bool:
        (status,) = machine.get("pod", "crash")["status"]["containerStatuses"]
        return status["restartCount"] >= 2 and status["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"

    eventually("the container is in CrashLoopBackOff after two restarts", is_backing_off, 90)
    (status,) = machine.get("pod", "crash")["status"]["containerStatuses"]
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert machine.kubectl("logs", "crash", "--previous") == "out\n"
    machine.kubectl("delete", "pod", "crash", "--now")


def processes_of(container_id: str) -> list[int]:
    """The host's ids of a container's processes, found by their cgroup."""
    plain = container_id.removeprefix("containerd://")
    found = []
    for cgroup in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):  # the process has ended meanwhile
            if plain in cgroup.read_text():
                found.append(int(cgroup.parent.name))
    return found


def test_a_killed_container_is_restarted(web: Machine) -> None:
    pod = pods(web)[0]
    (status,) = pod["status"]["containerStatuses"]
    for process in processes_of(status["containerID"]):
        os.kill(process, signal.SIGKILL)

    def is_restarted() -> bool:
        (status,) = web.get("pod", pod["metadata"]["name"])["status"]["containerStatuses"]
        return bool(status["restartCount"] == 1 and status["ready"])

    eventually("the container runs again", is_restarted)
    (now,) = web.get("pod", pod["metadata"]["name"])["status"]["containerStatuses"]
    assert now["lastState"]["terminated"]["exitCode"] == 137


def test_a_deleted_pod_is_replaced(web: Machine) -> None:
    first = pods(web)[0]["metadata"]["name"]
    web.kubectl("delete", "pod", first)
    web.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert first not in {p["metadata"]["name"] for p in pods(web)}
    assert len(pods(web)) == 2


def test_a_killed_server_finds_every_object_and_container_again(web: Machine) -> None:
    web.kubectl("create", "configmap", "kept", "--from-literal=a=b")

    def running() -> dict[str, tuple[str, int]]:
        return {
            p["metadata"]["uid"]: (s["containerID"], s["restartCount"])
            for p in pods(web)
            for s in p["status"]["containerStatuses"]
        }

    before = running()
    address = web.get("service", "web")["spec"]["clusterIP"]
    web.kill()
    assert "It works" in fetch(f"http://{address}/"), "pods and services must go on without the server"
    web.up()
    assert web.get("configmap", "kept")["data"] == {"a": "b"}
    time.sleep(5)  # long enough for a wrong restart to show; nothing observable marks its absence
    assert running() == before
    name = pods(web)[0]["metadata"]["name"]
    assert web.kubectl("exec", name, "--", "echo", "still here") == "still here\n"


def test_a_second_node_joins_and_pods_spread(web: Machine) -> None:
    web.join("second")
    web.kubectl("scale", "deployment/web", "--replicas=6")
    eventually("six pods are ready", lambda: web.get("deployment", "web")["status"].get("readyReplicas") == 6)
    assert {p["spec"]["nodeName"] for p in pods(web)} == {"first", "second"}
    there = next(p for p in pods(web) if p["spec"]["nodeName"] == "second")
    assert "It works" in fetch(f"http://{there['status']['podIP']}:8080/")
    assert web.kubectl("exec", there["metadata"]["name"], "--", "echo", "second") == "second\n"


def test_pods_services_and_names_reach_across_to_a_node_in_another_network(web: Machine) -> None:
    web.join("apart", apart=True)
    web.kubectl("cordon", "second")
    web.kubectl("rollout", "restart", "deployment/web")
    web.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    there = next(p for p in pods(web) if p["spec"]["nodeName"] == "apart")
    here = next(p for p in pods(web) if p["spec"]["nodeName"] == "first")
    service = web.get("service", "web")
    node_port = service["spec"]["ports"][0]["nodePort"]
    assert "It works" in fetch(f"http://{there['status']['podIP']}:8080/")
    assert "It works" in fetch(f"http://{web.address('apart')}:{node_port}/")
    for place in (f"{here['status']['podIP']} 8080", f"{service['spec']['clusterIP']} 80", "web.default.svc 80"):
        get = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {place}"
        assert "It works" in web.kubectl("exec", there["metadata"]["name"], "--", "sh", "-c", get), place
    web.kubectl("uncordon", "second")


def test_delete_takes_everything_with_it(web: Machine) -> None:
    web.kubectl("delete", "-f", str(ROOT / "examples"), "--timeout=60s")
    eventually("no pod is left", lambda: web.get("pods", "-l", "app=web")["items"] == [])
    assert web.get("replicasets", "-l", "app=web")["items"] == []
