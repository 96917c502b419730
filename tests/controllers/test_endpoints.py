from typing import Any

from kubelite.controllers import endpointslices
from kubelite.controllers.endpoints import EndpointsController
from kubelite.controllers.endpointslices import MANAGER_LABEL, SERVICE_LABEL, EndpointSlices
from kubelite.controllers.mirroring import EndpointSliceMirroring
from kubelite.meta.types import Obj
from tests.controllers.conftest import Cluster, pod_template

SLICES = endpointslices.RESOURCE


async def service(cluster: Cluster, name: str = "web", **spec: Any) -> Obj:
    wanted = {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}], **spec}
    obj = {"metadata": {"name": name, "labels": {"team": "shop"}}, "spec": {k: v for k, v in wanted.items() if v is not None}}
    return await cluster.client.create("services", obj, "default")


async def pod(cluster: Cluster, name: str, ip: str, *, ready: bool = True, ports: list[Obj] | None = None, **spec: Any) -> Obj:
    template = pod_template(**spec)
    if ports:
        template["spec"]["containers"][0]["ports"] = ports
    template["metadata"]["name"] = name
    made = await cluster.client.create("pods", template, "default")
    await cluster.bind(made)
    await cluster.set_pod(made, ready=ready, ip=ip)
    return made


def addresses(slices: list[Obj]) -> dict[str, bool]:
    return {e["addresses"][0]: e["conditions"]["ready"] for s in slices for e in s.get("endpoints") or ()}


async def until_addresses(cluster: Cluster, wanted: dict[str, bool], name: str = "web") -> list[Obj]:
    async def there() -> list[Obj]:
        found = await cluster.list(SLICES, label_selector=f"{SERVICE_LABEL}={name}")
        return found if found and addresses(found) == wanted else []

    found: list[Obj] = await cluster.until(there, f"slices with {wanted}")
    return found


async def test_slices_follow_the_pods_of_a_service(cluster: Cluster) -> None:
    cluster.start(EndpointSlices)
    made = await service(cluster)
    (empty,) = await until_addresses(cluster, {})
    assert empty["addressType"] == "IPv4" and not empty.get("ports")
    await pod(cluster, "a", "10.0.0.1")
    b = await pod(cluster, "b", "10.0.0.2", ready=False)
    (found,) = await until_addresses(cluster, {"10.0.0.1": True, "10.0.0.2": False})
    assert found["metadata"]["labels"] == {
        "team": "shop",
        SERVICE_LABEL: "web",
        MANAGER_LABEL: "endpointslice-controller.k8s.io",
    }
    assert found["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    assert found["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    first = found["endpoints"][0]
    assert first["targetRef"]["kind"] == "Pod" and first["nodeName"] == "n1"
    assert first["conditions"] == {"ready": True, "serving": True, "terminating": False}

    await cluster.set_pod(b, ip="10.0.0.2")
    (same,) = await until_addresses(cluster, {"10.0.0.1": True, "10.0.0.2": True})
    assert same["metadata"]["name"] == found["metadata"]["name"]
    await cluster.client.delete("pods", "a", "default", grace_period_s=30)
    (ending,) = await until_addresses(cluster, {"10.0.0.1": False, "10.0.0.2": True})
    gone = next(e for e in ending["endpoints"] if e["addresses"] == ["10.0.0.1"])
    assert gone["conditions"] == {"ready": False, "serving": True, "terminating": True}
    await cluster.client.delete("pods", "a", "default", grace_period_s=0)
    await until_addresses(cluster, {"10.0.0.2": True})
    await cluster.client.delete("services", "web", "default")
    await cluster.until_count(SLICES, 0)


async def test_pods_that_name_a_port_differently_are_in_different_slices(cluster: Cluster) -> None:
    cluster.start(EndpointSlices, EndpointsController)
    await service(cluster, ports=[{"name": "http", "port": 80, "targetPort": "web"}])
    await pod(cluster, "a", "10.0.0.1", ports=[{"name": "web", "containerPort": 8000}])
    await pod(cluster, "b", "10.0.0.2", ports=[{"name": "web", "containerPort": 9000}])
    found = await until_addresses(cluster, {"10.0.0.1": True, "10.0.0.2": True})
    assert sorted(s["ports"][0]["port"] for s in found) == [8000, 9000]

    async def two() -> bool:
        endpoints = await cluster.get("endpoints", "web")
        return endpoints is not None and len(endpoints.get("subsets") or ()) == 2

    await cluster.until(two)


async def test_endpoints_separate_ready_addresses_from_others(cluster: Cluster) -> None:
    cluster.start(EndpointsController)
    await service(cluster)
    await pod(cluster, "a", "10.0.0.10")
    await pod(cluster, "b", "10.0.0.9")
    await pod(cluster, "c", "10.0.0.3", ready=False)

    async def there() -> Obj | None:
        found = await cluster.get("endpoints", "web")
        subsets = (found or {}).get("subsets") or []
        return found if subsets and len(subsets[0].get("addresses", ())) == 2 and subsets[0].get("notReadyAddresses") else None

    found = await cluster.until(there)
    (subset,) = found["subsets"]
    assert [a["ip"] for a in subset["addresses"]] == ["10.0.0.9", "10.0.0.10"]
    assert [a["ip"] for a in subset["notReadyAddresses"]] == ["10.0.0.3"]
    assert subset["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert found["metadata"]["labels"]["endpoints.kubernetes.io/managed-by"] == "endpoint-controller"
    await cluster.client.delete("services", "web", "default")
    await cluster.until_gone("endpoints", "web")


async def test_a_headless_service_has_hostnames_and_may_publish_unready_pods(cluster: Cluster) -> None:
    cluster.start(EndpointSlices)
    await service(cluster, clusterIP="None", publishNotReadyAddresses=True, ports=None)
    await pod(cluster, "a", "10.0.0.1", ready=False, hostname="a", subdomain="web")
    (found,) = await until_addresses(cluster, {"10.0.0.1": True})
    assert found["metadata"]["labels"]["service.kubernetes.io/headless"] == ""
    (endpoint,) = found["endpoints"]
    assert endpoint["hostname"] == "a" and endpoint["conditions"]["serving"] is False


async def test_many_pods_fill_slices_of_a_hundred(cluster: Cluster) -> None:
    spec: Obj = {"selector": {"a": "b"}, "clusterIP": "10.96.0.5", "ports": [{"port": 80}]}
    obj: Obj = {"metadata": {"name": "web", "namespace": "default", "uid": "u"}, "spec": spec}
    nodes = cluster.informers.of("nodes")

    def running(number: int) -> Obj:
        meta = {"name": f"p{number}", "namespace": "default", "uid": f"u{number}"}
        status = {"phase": "Running", "podIP": f"10.0.{number // 250}.{number % 250 + 1}"}
        return {"metadata": meta, "spec": {"containers": [], "nodeName": "n1"}, "status": status}

    selected = [running(n) for n in range(250)]
    plan = endpointslices.plan_of(obj, selected, [], nodes)
    assert [len(s["endpoints"]) for s in plan.create] == [100, 100, 50] and not plan.update and not plan.delete
    existing = [{**s, "metadata": {**s["metadata"], "name": f"s{n}"}} for n, s in enumerate(plan.create)]
    again = endpointslices.plan_of(obj, selected, existing, nodes)
    assert not again.create and not again.update and not again.delete
    # One pod goes and one comes: the slice that changes anyway takes the new one.
    changed = endpointslices.plan_of(obj, [*selected[1:], running(300)], existing, nodes)
    assert [s["metadata"]["name"] for s in changed.update] == ["s0"] and not changed.create and not changed.delete


async def test_endpoints_that_somebody_else_writes_are_mirrored(cluster: Cluster) -> None:
    cluster.start(EndpointSliceMirroring)
    await service(cluster, "ext", selector=None)
    endpoints: Obj = {
        "metadata": {"name": "ext", "namespace": "default"},
        "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "notReadyAddresses": [{"ip": "192.0.2.2"}], "ports": [{"port": 443}]}],
    }
    made = await cluster.client.create("endpoints", endpoints)
    (found,) = await until_addresses(cluster, {"192.0.2.1": True, "192.0.2.2": False}, "ext")
    assert found["metadata"]["labels"][MANAGER_LABEL] == "endpointslicemirroring-controller.k8s.io"
    assert found["ports"][0]["port"] == 443
    changed = {**made, "subsets": [{"addresses": [{"ip": "192.0.2.3"}], "ports": [{"port": 443}]}]}
    await cluster.client.update("endpoints", changed)
    (same,) = await until_addresses(cluster, {"192.0.2.3": True}, "ext")
    assert same["metadata"]["name"] == found["metadata"]["name"]
    await cluster.client.delete("endpoints", "ext", "default")
    await cluster.until_count(SLICES, 0)


def test_a_service_that_wants_its_traffic_close_hints_at_zones_and_nodes() -> None:
    conditions = [{"type": "Ready", "status": "True"}]
    meta = {"name": "p", "namespace": "default", "uid": "p"}
    running: Obj = {"metadata": meta, "spec": {"containers": [], "nodeName": "n1"}, "status": {"conditions": conditions}}

    def hints(wish: str, running: Obj = running) -> Obj | None:
        spec = {"selector": {"a": "b"}, **({"trafficDistribution": wish} if wish else {})}
        service = {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}
        found: Obj | None = endpointslices.endpoint_of(service, running, ["10.0.0.1"], "z1").get("hints")
        return found

    assert hints("") is None
    assert hints("PreferClose") == {"forZones": [{"name": "z1"}]}
    assert hints("PreferSameNode") == {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]}
    assert hints("PreferClose", {**running, "status": {}}) is None
