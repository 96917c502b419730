import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from kubelite.admission import builtin, webhooks
from kubelite.admission.chain import Chain
from kubelite.auth import pki
from kubelite.client.webhooks import CallFailed, HttpCaller, is_dialable
from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.registry.strategies import table  # noqa: F401 - loaded before a test's loop runs, as the registry does
from tests.admission.fakes import KINDS, StaticClient, request
from tests.auth.fakes import StaticInformers, named

Answer = Callable[[Obj], Obj]


class FakeCaller:
    """Answers in the process; records the reviews."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.reviews: list[Obj] = []

    async def call(self, config: Obj, review: Obj, timeout_s: float) -> Any:
        self.reviews.append(review)
        response = {"uid": review["request"]["uid"], **self.answer(review["request"])}
        return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}


RULE = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}


def hook(name: str = "h.example.com", **spec: Any) -> Obj:
    return {"name": name, "rules": [RULE], "sideEffects": "None", "clientConfig": {}, "admissionReviewVersions": ["v1"], **spec}


def setup(answer: Answer, *, mutating: list[Obj] | None = None, validating: list[Obj] | None = None):  # type: ignore[no-untyped-def]
    informers = StaticInformers({"namespaces": [named("ns", metadata={"labels": {"team": "a"}})]})
    for kind, hooks in (("mutating", mutating), ("validating", validating)):
        resource = f"{kind}webhookconfigurations.admissionregistration.k8s.io"
        informers.put(resource, named("config", webhooks=hooks or []))
    caller = FakeCaller(answer)
    client = StaticClient(informers)
    plugins = builtin.configured_plugins(client, informers, lambda *_: True, KINDS, caller)  # type: ignore[arg-type]
    return Chain(plugins), caller


def allow(request: Obj) -> Obj:
    return {"allowed": True}


def patch(*operations: Obj) -> Answer:
    encoded = base64.b64encode(orjson.dumps(list(operations))).decode()
    return lambda request: {"allowed": True, "patch": encoded, "patchType": "JSONPatch"}


CONFIG_MAP = named("c", "ns", data={"a": "1"})


async def test_a_webhook_gets_the_whole_request() -> None:
    chain, caller = setup(allow, validating=[hook()])
    await chain.validate(request("UPDATE", "configmaps", CONFIG_MAP, old=CONFIG_MAP))
    sent = caller.reviews[0]["request"]
    assert sent["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (sent["operation"], sent["namespace"], sent["name"]) == ("UPDATE", "ns", "c")
    assert sent["userInfo"]["username"] == "admin"
    assert (sent["object"]["kind"], sent["oldObject"]["apiVersion"]) == ("ConfigMap", "v1")


async def test_a_refusal_says_which_webhook_and_why() -> None:
    chain, _ = setup(
        lambda r: {"allowed": False, "status": {"message": "no", "code": 403, "reason": "Because"}}, validating=[hook()]
    )
    with pytest.raises(errors.ApiError) as refused:
        await chain.validate(request("CREATE", "configmaps", CONFIG_MAP))
    assert refused.value.message == 'admission webhook "h.example.com" denied the request: no'
    assert (refused.value.code, refused.value.reason) == (403, "Because")
    silent = webhooks.refused("x", None)
    assert (silent.code, silent.message) == (400, 'admission webhook "x" denied the request without explanation')


async def test_a_patch_changes_the_object_and_asks_again_who_wants_it() -> None:
    add = {"op": "add", "path": "/data/b", "value": "2"}
    chain, caller = setup(patch(add), mutating=[hook("a.x.y", reinvocationPolicy="IfNeeded"), hook("b.x.y")])
    changed = await chain.mutate(request("CREATE", "configmaps", CONFIG_MAP))
    assert changed is not None
    assert changed["data"] == {"a": "1", "b": "2"}
    assert CONFIG_MAP["data"] == {"a": "1"}
    assert len(caller.reviews) == 3


async def test_what_a_patch_adds_gets_its_normal_form_and_defaults() -> None:
    rule = {**RULE, "resources": ["pods"]}
    pod = named("p", "ns", spec={"containers": [{"name": "c", "image": "i"}]})
    sidecar = {"op": "add", "path": "/spec/containers/-", "value": {"name": "s", "image": "i:1", "stdin": False}}
    chain, _ = setup(patch(sidecar), mutating=[hook(rules=[rule])])
    changed = await chain.mutate(request("CREATE", "pods", pod))
    assert changed is not None
    assert changed["spec"]["containers"][1] == {
        "name": "s",
        "image": "i:1",
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }
    chain, _ = setup(patch({"op": "add", "path": "/spec/containers", "value": "none"}), mutating=[hook(rules=[rule])])
    with pytest.raises(errors.InternalError, match="containers"):
        await chain.mutate(request("CREATE", "pods", pod))


async def test_only_matching_requests_are_sent() -> None:
    selective = [
        hook("ns.x.y", namespaceSelector={"matchLabels": {"team": "b"}}),
        hook("obj.x.y", objectSelector={"matchLabels": {"x": "y"}}),
        hook("cond.x.y", matchConditions=[{"name": "c", "expression": "request.userInfo.username != 'admin'"}]),
        hook("op.x.y", rules=[RULE | {"operations": ["DELETE"]}]),
        hook("scope.x.y", rules=[RULE | {"scope": "Cluster"}]),
        hook("sub.x.y", rules=[RULE | {"resources": ["configmaps/status"]}]),
        hook("exact.x.y", rules=[RULE | {"apiVersions": ["v2"]}], matchPolicy="Exact"),
    ]
    chain, caller = setup(allow, validating=selective)
    await chain.validate(request("CREATE", "configmaps", CONFIG_MAP))
    assert caller.reviews == []
    chain, caller = setup(allow, validating=[hook(namespaceSelector={"matchLabels": {"team": "a"}})])
    await chain.validate(request("CREATE", "configmaps", CONFIG_MAP))
    assert len(caller.reviews) == 1


async def test_configurations_of_admission_are_never_sent() -> None:
    everything = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}
    chain, caller = setup(lambda r: {"allowed": False}, validating=[hook(rules=[everything])])
    resource = "validatingwebhookconfigurations.admissionregistration.k8s.io"
    await chain.validate(request("DELETE", resource, None, old=named("config")))
    assert caller.reviews == []


async def test_a_failing_webhook_counts_unless_it_says_otherwise() -> None:
    def fail(request: Obj) -> Obj:
        raise CallFailed("gone")

    chain, _ = setup(fail, validating=[hook()])
    with pytest.raises(errors.InternalError, match='failed calling webhook "h.example.com": failed to call webhook: gone'):  # noqa: RUF043
        await chain.validate(request("CREATE", "configmaps", CONFIG_MAP))
    chain, _ = setup(fail, validating=[hook(failurePolicy="Ignore")], mutating=[hook(failurePolicy="Ignore")])
    await chain.validate(request("CREATE", "configmaps", CONFIG_MAP))
    assert await chain.mutate(request("CREATE", "configmaps", CONFIG_MAP)) is not None
    wrong_uid, _ = setup(lambda r: {"allowed": True, "uid": "other"}, validating=[hook()])
    with pytest.raises(errors.InternalError, match=r"expected response\.uid"):
        await wrong_uid.validate(request("CREATE", "configmaps", CONFIG_MAP))


async def test_a_dry_run_is_not_sent_to_who_has_side_effects() -> None:
    chain, _ = setup(allow, validating=[hook(sideEffects="Some")])
    with pytest.raises(errors.BadRequest, match="does not support dry run"):
        await chain.validate(request("CREATE", "configmaps", CONFIG_MAP, dry_run=True))


@asynccontextmanager
async def server(tmp_path: Path, handler: Callable[[web.Request], Any]) -> AsyncIterator[tuple[int, str]]:
    """An HTTPS server on a free port, and the CA bundle that trusts it."""
    authority = pki.Authority.load_or_create(tmp_path)
    pair = authority.server_certificate(["localhost"], ["127.0.0.1"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    assert pair.certificate_path is not None
    context.load_cert_chain(pair.certificate_path, pair.key_path)
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield port, base64.b64encode(authority.certificate_pem).decode()
    finally:
        await runner.cleanup()


@asynccontextmanager
async def calling() -> AsyncIterator[HttpCaller]:
    caller = HttpCaller(StaticInformers())  # type: ignore[arg-type]
    try:
        yield caller
    finally:
        await caller.close()


async def test_a_call_goes_over_tls_to_who_the_bundle_trusts(tmp_path: Path) -> None:
    async def echo(asked: web.BaseRequest) -> web.Response:
        return web.json_response({"got": await asked.json(), "timeout": asked.query["timeout"]})

    async with server(tmp_path, echo) as (port, bundle), calling() as caller:
        url = f"https://localhost:{port}/hook"
        assert await caller.call({"url": url, "caBundle": bundle}, {"x": 1}, 5) == {"got": {"x": 1}, "timeout": "5s"}
        with pytest.raises(CallFailed, match="certificate verify failed"):
            await caller.call({"url": url}, {}, 5)
        with pytest.raises(CallFailed, match="https"):
            await caller.call({"url": f"http://localhost:{port}"}, {}, 5)


async def test_CVE_2022_3172_redirects_are_not_followed_and_bodies_not_told(tmp_path: Path) -> None:
    async def redirect(asked: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers={"Location": "https://169.254.169.254/"}, text="secret")

    async with server(tmp_path, redirect) as (port, bundle), calling() as caller:
        with pytest.raises(CallFailed) as failed:
            await caller.call({"url": f"https://localhost:{port}/", "caBundle": bundle}, {}, 5)
        assert "status 302" in str(failed.value)
        assert "secret" not in str(failed.value)


async def test_a_call_ends_with_its_time_and_its_answer_is_bounded(tmp_path: Path) -> None:
    async def slow(asked: web.BaseRequest) -> web.Response:
        if asked.path == "/big":
            return web.Response(body=b"x" * 4_000_000)
        await asyncio.Event().wait()
        return web.Response()

    async with server(tmp_path, slow) as (port, bundle), calling() as caller:
        with pytest.raises(CallFailed, match="context deadline exceeded"):
            await caller.call({"url": f"https://localhost:{port}/", "caBundle": bundle}, {}, 0.05)
        with pytest.raises(CallFailed, match="larger than"):
            await caller.call({"url": f"https://localhost:{port}/big", "caBundle": bundle}, {}, 5)


def test_CVE_2020_8562_a_service_is_reached_at_a_ready_endpoint_that_can_be_a_pods() -> None:
    informers = StaticInformers()
    caller = HttpCaller(informers)  # type: ignore[arg-type]
    config = {"service": {"namespace": "ns", "name": "hook", "path": "/validate"}}
    with pytest.raises(CallFailed, match='service "hook" not found'):
        caller._address(config)
    informers.put("services", named("hook", "ns", spec={"ports": [{"port": 443, "targetPort": 8443, "name": "https"}]}))
    with pytest.raises(CallFailed, match="no endpoints available"):
        caller._address(config)
    part = named(
        "hook-1",
        "ns",
        metadata={"labels": {"kubernetes.io/service-name": "hook"}},
        ports=[{"name": "https", "port": 8443}],
        endpoints=[
            {"addresses": ["10.244.0.5"], "conditions": {"ready": True}},
            {"addresses": ["10.244.0.6"], "conditions": {"ready": False}},
            {"addresses": ["127.0.0.1"]},
            {"addresses": ["169.254.169.254"]},
        ],
    )
    informers.put("endpointslices.discovery.k8s.io", part)
    for _ in range(20):
        url, name, shown = caller._address(config)
        assert url == "https://10.244.0.5:8443/validate"
        assert (name, shown) == ("hook.ns.svc", "https://hook.ns.svc:443/validate")
    assert not any(is_dialable(a) for a in ("127.0.0.1", "169.254.169.254", "::1", "0.0.0.0", "fe80::1", "name"))
