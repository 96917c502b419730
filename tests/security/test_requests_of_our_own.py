"""Requests that the control plane makes itself, and what of their answers gets out."""

import ast
from pathlib import Path

import structlog
from aiohttp import web

import kubelite
from kubelite.admission import builtin
from kubelite.admission.chain import Chain
from kubelite.meta.errors import ApiError
from tests.admission.fakes import KINDS, StaticClient, request
from tests.admission.test_webhooks import CONFIG_MAP, calling, hook, server
from tests.auth.fakes import StaticInformers, named

PACKAGE = Path(kubelite.__file__).parent
#: What could fetch a URL.
CLIENTS = ("aiohttp", "http.client", "urllib.request", "urllib3", "requests", "httpx", "socket", "grpc")


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_cve_2025_13281_controllers_and_the_scheduler_can_fetch_no_url() -> None:
    for part in ("controllers", "scheduler"):
        for file in (PACKAGE / part).rglob("*.py"):
            found = {name for name in imported(file) if name.startswith(CLIENTS) and name != "socketserver"}
            assert not found, f"{file} imports {found}"


async def test_cve_2020_8561_nothing_of_a_webhooks_answer_reaches_the_log(tmp_path: Path) -> None:
    async def answer(asked: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers={"Location": "https://169.254.169.254/"}, text="internal-secret")

    async with server(tmp_path, answer) as (port, bundle), calling() as caller:
        config = {"url": f"https://localhost:{port}/", "caBundle": bundle}
        informers = StaticInformers({"namespaces": [named("ns")]})
        hooks = [hook("a.example.com", clientConfig=config), hook("b.example.com", clientConfig=config, failurePolicy="Ignore")]
        informers.put("validatingwebhookconfigurations.admissionregistration.k8s.io", named("config", webhooks=hooks))
        client = StaticClient(informers)
        plugins = builtin.configured_plugins(client, informers, lambda *_: True, KINDS, caller)  # type: ignore[arg-type]
        refusals = []
        with structlog.testing.capture_logs() as lines:
            try:
                await Chain(plugins).validate(request("CREATE", "configmaps", CONFIG_MAP))
            except ApiError as e:
                refusals.append(e.message)
        assert refusals
        assert "internal-secret" not in f"{lines} {refusals}"
        assert "169.254.169.254" not in f"{lines} {refusals}"
