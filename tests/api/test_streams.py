"""Logs, exec, attach, port-forward and proxies, with the simulated node at the other end."""

import asyncio

import aiohttp
import orjson
import pytest

from kubelite.api.handlers.proxy import check_address, split_name
from kubelite.api.proxy import rewritten, rewritten_html
from kubelite.meta.errors import BadRequest


@pytest.fixture
async def pod(http, namespace) -> str:
    """A pod that runs, and its path."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    container = {"name": "c", "image": "busybox", "command": ["sh", "-c", "echo hello; sleep 1000"]}
    made = await http.post(path, {"metadata": {"name": "p"}, "spec": {"containers": [container]}})
    assert made.status == 201, made.body
    url = f"{http.server}{path}?watch=1&resourceVersion=0&timeoutSeconds=20"
    async with asyncio.timeout(30), http.session.get(url) as stream:
        async for line in stream.content:
            if (orjson.loads(line)["object"].get("status") or {}).get("phase") == "Running":
                break
    return f"{path}/p"


async def test_logs_are_read(http, pod):
    answer = await http.get(f"{pod}/log")
    assert (answer.status, answer.body) == (200, b"hello\n")
    assert answer.headers["Content-Type"] == "text/plain"


async def test_logs_are_read_over_a_websocket(http, pod):
    async with http.session.ws_connect(f"{http.server}{pod}/log", protocols=("binary.k8s.io",)) as socket:
        assert socket.protocol == "binary.k8s.io"
        assert (await socket.receive(5)).data == b"hello\n"


@pytest.mark.parametrize("query", ["tailLines=-1", "sinceSeconds=0", "limitBytes=0", "stream=Nonsense", "container=nonsense"])
async def test_log_options_are_checked(http, pod, query):
    assert (await http.get(f"{pod}/log?{query}")).status in (400, 422)


async def exec_frames(http, pod, query: str, protocol: str = "v5.channel.k8s.io", send: tuple[bytes, ...] = ()) -> list[bytes]:
    async with http.session.ws_connect(f"{http.server}{pod}/exec?{query}", protocols=(protocol,)) as socket:
        for data in send:
            await socket.send_bytes(data)
        return [message.data async for message in socket]


async def test_a_commands_output_and_status_come_on_their_channels(http, pod):
    frames = await exec_frames(http, pod, "command=echo&command=hi&stdout=1&stderr=1")
    assert b"\1hi\n" in frames
    assert frames[-1][:1] == b"\3"
    assert orjson.loads(frames[-1][1:])["status"] == "Success"


async def test_a_failed_command_tells_its_exit_code(http, pod):
    frames = await exec_frames(http, pod, "command=false&stdout=1")
    status = orjson.loads(frames[-1][1:])
    assert status["reason"] == "NonZeroExitCode"
    assert status["details"]["causes"][0] == {"reason": "ExitCode", "message": "1"}


async def test_standard_input_is_sent_and_closed(http, pod):
    frames = await exec_frames(http, pod, "command=cat&stdin=1&stdout=1", send=(b"\0some input", b"\xff\0"))
    assert b"".join(f[1:] for f in frames if f[:1] == b"\1") == b"some input"


async def test_base64_channels_are_text(http, pod):
    frames = await exec_frames(http, pod, "command=echo&command=hi&stdout=1", "v4.base64.channel.k8s.io")
    assert "1aGkK" in frames


@pytest.mark.parametrize("query", ["command=true", "stdout=1", "command=true&stdout=1&container=nonsense"])
async def test_exec_options_are_checked(http, pod, query):
    with pytest.raises(aiohttp.WSServerHandshakeError) as e:
        await exec_frames(http, pod, query)
    assert e.value.status == 400


async def test_exec_without_an_upgrade_is_refused(http, pod):
    answer = await http.post(f"{pod}/exec?command=true&stdout=1", b"")
    assert (answer.status, answer.json["message"]) == (400, "Upgrade request required")


async def test_an_unknown_subprotocol_is_refused(http, pod):
    with pytest.raises(aiohttp.WSServerHandshakeError) as e:
        await exec_frames(http, pod, "command=true&stdout=1", "nonsense")
    assert e.value.status == 400


async def test_a_pod_without_a_node_has_no_streams(http, namespace):
    path = f"/api/v1/namespaces/{namespace}/pods"
    spec = {"containers": [{"name": "c", "image": "i"}], "schedulerName": "nobody"}
    await http.post(path, {"metadata": {"name": "q"}, "spec": spec})
    assert (await http.get(f"{path}/q/log")).status == 204
    answer = await http.post(f"{path}/q/exec?command=true&stdout=1", b"")
    assert "does not have a host assigned" in answer.json["message"]


async def test_a_nodes_proxy_has_what_the_node_tells(http):
    name = (await http.get("/api/v1/nodes")).json["items"][0]["metadata"]["name"]
    assert (await http.get(f"/api/v1/nodes/{name}/proxy/healthz")).body == b"ok"
    assert (await http.get(f"/api/v1/nodes/{name}/proxy/nonsense")).status == 404


async def test_a_service_without_endpoints_is_unavailable(http, namespace):
    service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    await http.post(f"/api/v1/namespaces/{namespace}/services", service)
    answer = await http.get(f"/api/v1/namespaces/{namespace}/services/s/proxy/")
    assert (answer.status, answer.json["message"]) == (503, 'no endpoints available for service "s"')


async def test_a_proxy_without_a_slash_leads_to_one_with_it(http, pod):
    answer = await http.get(f"{pod}/proxy?a=b")
    assert (answer.status, answer.headers["Location"]) == (301, f"{pod}/proxy/?a=b")


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "fe80::1", "0.0.0.0", "224.0.0.1", "example.com", ""])
def test_cve_2022_3294_addresses_that_are_no_pods_are_not_dialled(address):
    with pytest.raises(BadRequest):
        check_address(address)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("web", ("http", "web", "")),
        ("web:80", ("http", "web", "80")),
        ("https:web:443", ("https", "web", "443")),
        ("https:web:", ("https", "web", "")),
        (":web:", ("http", "web", "")),
    ],
)
def test_proxied_names_have_a_scheme_and_a_port(text, parts):
    assert split_name(text) == parts


def test_other_schemes_are_not_proxied():
    with pytest.raises(BadRequest):
        split_name("gopher:web:70")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/x?y=1#z", "/p/proxy/x?y=1#z"),
        ("http://10.0.0.1:80/x", "/p/proxy/x"),
        ("/p/proxy/x", "/p/proxy/x"),
        ("x/y", "x/y"),
        ("https://elsewhere.example/x", "https://elsewhere.example/x"),
        ("javascript:void(0)", "javascript:void(0)"),
    ],
)
def test_links_of_a_proxied_page_lead_through_the_proxy(url, expected):
    assert rewritten(url, "10.0.0.1:80", "/p/proxy") == expected


def test_pages_have_their_links_rewritten():
    assert rewritten_html(b"<a href=\"/x\">t</a> <img src='/y'>", "h", "/p") == b"<a href=\"/p/x\">t</a> <img src='/p/y'>"
