"""The CNI configuration with the real plugins: pods of a real containerd reach each other and the node, bridged or not."""

import asyncio
import json
import subprocess
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubelite.network import pods
from runtimes import containerd
from runtimes import interface as to
from runtimes.interface import BackendOptions
from runtimes.suite import Pod, chunks, suite_image

pytestmark = [pytest.mark.root, pytest.mark.containerd, pytest.mark.slow]


@pytest.fixture(params=[True, False], ids=["bridge", "ptp"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[containerd.Backend]:
    node = f"cni-{uuid.uuid4().hex[:6]}"
    conf = tmp_path / "cni"
    conf.mkdir()
    made = pods.conflist(node, ["10.214.0.0/24"], bridged=request.param, data_dir=str(tmp_path / "ipam"))
    (conf / "10-kubelite.conflist").write_text(json.dumps(made))
    if request.param:
        left_behind = ["ip", "link", "add", pods.bridge_name(node), "type", "bridge"]
        subprocess.run(left_behind, check=True, capture_output=True)
        subprocess.run(["ip", "address", "add", "10.215.0.1/24", "dev", pods.bridge_name(node)], check=True, capture_output=True)
    backend = containerd.Backend(BackendOptions(state_dir=str(tmp_path / "state"), cni_conf_dir=str(conf)))
    await backend.start()
    await backend.import_image(chunks(suite_image()))
    try:
        yield backend
    finally:
        for sandbox in await backend.list_sandboxes():
            await backend.stop_sandbox(sandbox.id)
            await backend.remove_sandbox(sandbox.id)
        await backend.stop()
        assert backend.daemon is not None
        await backend.daemon.remove()
        subprocess.run(["ip", "link", "delete", pods.bridge_name(node)], check=False, capture_output=True)


async def test_pods_reach_each_other_and_the_node_reaches_them_whatever_an_earlier_node_left(
    backend: containerd.Backend, tmp_path: Path
) -> None:
    made = []
    for name in ("server", "client"):
        config = to.SandboxConfig(name=name, namespace="default", uid=name, log_directory=str(tmp_path / name))
        made.append(Pod(backend, config, await backend.run_sandbox(config)))
    server, client = made
    await server.run("httpd", "-f", "-p", "8080", "-h", "/etc")
    (address,) = (await backend.sandbox_status(server.id)).ips
    assert address.startswith("10.214.0.")
    async with asyncio.timeout(30):
        while True:
            try:
                reader, writer = await asyncio.open_connection(address, 8080)
                break
            except OSError:
                await asyncio.sleep(0.05)
    writer.write(b"GET /group HTTP/1.0\r\n\r\n")
    assert b"root:x:0" in await reader.read()
    writer.close()
    ended = await client.ended(await client.run("wget", "-q", "-O", "-", f"http://{address}:8080/group"))
    assert ended.exit_code == 0
    assert ("stdout", "F", "root:x:0:") in client.log()
