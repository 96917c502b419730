from collections import Counter
from typing import Any

from kubelite.client.informers import Informer
from kubelite.controllers import backends, endpoints, hints, sliceplan
from kubelite.controllers.endpoints import EndpointsController
from kubelite.controllers.endpointslices import EndpointSlices
from kubelite.controllers.garbage import GarbageCollector
from kubelite.controllers.mirroring import EndpointSliceMirroring
from kubelite.controllers.sliceplan import MANAGER_LABEL, SERVICE_LABEL, Part, Plan
from kubelite.meta.types import Obj
from tests.controllers.conftest import Cluster, pod_template

SLICES = sliceplan.RESOURCE


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
    await with_nodes(cluster, {"z1": "4"})
    cluster.start(EndpointSlices, GarbageCollector)
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
    await with_nodes(cluster, {"z1": "4"})
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
    assert [a["ip"] for a in subset["addresses"]] == ["10.0.0.10", "10.0.0.9"]  # as text
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


def running(number: int, *, ready: bool = True, node: str = "n1") -> Obj:
    meta = {"name": f"p{number}", "namespace": "default", "uid": f"u{number}"}
    condition = {
        "type": "Ready",
        "status": str(ready),
        "lastTransitionTime": f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z",
    }
    status = {"phase": "Running", "podIP": f"10.0.{number // 250}.{number % 250 + 1}", "conditions": [condition]}
    return {"metadata": meta, "spec": {"containers": [], "nodeName": node}, "status": status}


def stored_service(**spec: Any) -> Obj:
    wanted: Obj = {"selector": {"a": "b"}, "clusterIP": "10.96.0.5", "ports": [{"port": 80}], **spec}
    meta = {"name": "web", "namespace": "default", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": meta, "spec": wanted}


async def with_nodes(cluster: Cluster, cpus: dict[str, str]) -> Informer:
    """The informer of nodes, one in each zone, which is called after it."""
    for zone, cpu in cpus.items():
        name = f"n{zone[-1]}"
        await cluster.client.create("nodes", {"metadata": {"name": name, "labels": {sliceplan.ZONE_LABEL: zone}}})
        status = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": cpu}}
        await cluster.client.patch("nodes", name, "", {"status": status}, form="merge", subresource="status")
    nodes = cluster.informers.of("nodes")

    async def seen() -> bool:
        return len([n for n in nodes.list() if (n.get("status") or {}).get("allocatable")]) == len(cpus)

    await cluster.until(seen)
    return nodes


def stored(part: Part) -> list[Obj]:
    """What was created, as it is there then."""
    return [
        {**s, "metadata": {**s["metadata"], "name": f"s{n}", "uid": f"s{n}", "resourceVersion": "1"}}
        for n, s in enumerate(part.create)
    ]


async def test_many_pods_fill_slices_of_a_hundred_and_few_of_them_change(cluster: Cluster) -> None:
    nodes = await with_nodes(cluster, {"z1": "4"})
    service, selected = stored_service(), [running(n) for n in range(250)]

    def plan(selected: list[Obj], existing: list[Obj]) -> Part:
        made: Plan = sliceplan.of(service, selected, existing, nodes)
        (part,) = made.parts
        assert not made.delete and not made.skipped
        return part

    first = plan(selected, [])
    assert [len(s["endpoints"]) for s in first.create] == [100, 100, 50] and not first.update and not first.delete
    existing = stored(first)
    again = plan(selected, existing)
    assert again.same == existing and not again.create and not again.update and not again.delete
    # One pod goes and one comes: the slice that changes anyway takes the new one.
    changed = plan([*selected[1:], running(300)], existing)
    assert [s["metadata"]["name"] for s in changed.update] == ["s0"] and not changed.create and not changed.delete
    # Nothing else changes: the fullest that has room takes what is new.
    more = plan([*selected, running(300)], existing)
    assert [(s["metadata"]["name"], len(s["endpoints"])) for s in more.update] == [("s2", 51)] and not more.create


async def test_a_slice_that_would_go_takes_what_would_be_new_unless_it_is_of_another_owner(cluster: Cluster) -> None:
    nodes = await with_nodes(cluster, {"z1": "4"})
    old = stored(sliceplan.of(stored_service(ports=[{"port": 80}]), [running(1)], [], nodes).parts[0])
    (part,) = sliceplan.of(stored_service(ports=[{"port": 81}]), [running(1)], old, nodes).parts
    assert len(part.create) == len(part.delete) == 1
    part.reuse()
    assert [s["metadata"]["name"] for s in part.update] == ["s0"] and not part.create and not part.delete

    successor = stored_service()
    successor["metadata"]["uid"] = "another"
    (part,) = sliceplan.of(successor, [running(1)], old, nodes).parts
    part.reuse()
    assert len(part.create) == 1 and part.delete == old and not part.update


async def test_a_pod_on_a_node_that_is_not_there_is_left_out_and_told_of(cluster: Cluster) -> None:
    nodes = await with_nodes(cluster, {"z1": "4"})
    plan = sliceplan.of(stored_service(), [running(1), running(2, node="lost")], [], nodes)
    assert [len(s["endpoints"]) for s in plan.parts[0].create] == [1]
    assert plan.skipped == ["skipping Pod p2 for Service default/web: Node lost Not Found"]
    unready_too = sliceplan.of(stored_service(publishNotReadyAddresses=True), [running(2, node="lost")], [], nodes)
    assert [len(s["endpoints"]) for s in unready_too.parts[0].create] == [1] and not unready_too.skipped


def test_endpoints_hold_no_more_than_a_thousand_addresses_the_ready_ones_first() -> None:
    def subset(ready: int, other: int, first: int) -> Obj:
        listed = [{"ip": f"10.0.{n // 250}.{n % 250 + 1}"} for n in range(first, first + ready + other)]
        return {"addresses": listed[:ready], "notReadyAddresses": listed[ready:]}

    assert endpoints.fitted([subset(900, 100, 0)]) == ([subset(900, 100, 0)], False)
    kept, truncated = endpoints.fitted([subset(900, 300, 0)])
    assert truncated and [len(kept[0][field]) for field in ("addresses", "notReadyAddresses")] == [900, 100]
    kept, truncated = endpoints.fitted([subset(900, 10, 0), subset(600, 10, 2000)])
    assert truncated and [len(s["addresses"]) for s in kept] == [600, 400]
    assert not any("notReadyAddresses" in s for s in kept)


def test_subsets_of_the_same_addresses_become_one_and_who_is_unready_somewhere_is_unready() -> None:
    one, other = {"ip": "1.2.3.4"}, {"ip": "1.2.3.5"}
    http, https = {"port": 80}, {"port": 443}
    subsets = [{"addresses": [other, one], "ports": [http]}, {"addresses": [one, other], "ports": [https]}]
    assert backends.repacked(subsets) == [{"addresses": [one, other], "ports": [https, http]}]
    subsets = [{"addresses": [one], "ports": [http]}, {"notReadyAddresses": [one], "ports": [http]}]
    assert backends.repacked(subsets) == [{"notReadyAddresses": [one], "ports": [http]}]


def test_the_time_of_a_change_is_the_first_since_the_last_look() -> None:
    times, service = backends.TriggerTimes(), stored_service()
    assert times.changed("default/web", service, [running(1)]) == "2026-01-01T00:00:00Z"
    assert times.changed("default/web", service, [running(1)]) == ""
    assert times.changed("default/web", service, [running(1), running(5), running(3)]) == "2026-01-01T00:00:03Z"
    times.forget("default/web")
    assert times.changed("default/web", service, []) == "2026-01-01T00:00:00Z"


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


async def test_a_service_that_wants_its_traffic_close_hints_at_zones_and_nodes(cluster: Cluster) -> None:
    nodes = await with_nodes(cluster, {"z1": "4", "z2": "4"})
    selected = [running(1), running(2, ready=False)]

    def given(wish: str, existing: list[Obj]) -> Part:
        service = stored_service(**({"trafficDistribution": wish} if wish else {}))
        (part,) = sliceplan.of(service, selected, existing, nodes).parts
        assert hints.Zones().give("default/web", service, part) == []
        return part

    def of(slices: list[Obj]) -> dict[str, Obj | None]:
        return {e["targetRef"]["name"]: e.get("hints") for s in slices for e in s["endpoints"]}

    zone, both = {"forZones": [{"name": "z1"}]}, {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]}
    assert of(given("", []).create) == {"p1": None, "p2": None}
    made = given("PreferClose", [])
    assert of(made.create) == {"p1": zone, "p2": None}
    existing = stored(made)
    assert given("PreferSameZone", existing).same == existing
    assert of(given("PreferSameNode", existing).update) == {"p1": both, "p2": None}
    assert of(given("", existing).update) == {"p1": None, "p2": None}
    assert of(existing) == {"p1": zone, "p2": None}, "what a cache handed out stays as it is"


async def test_each_zone_gets_a_share_of_the_endpoints_that_its_cpus_are_of_all(cluster: Cluster) -> None:
    nodes = await with_nodes(cluster, {"z1": "2", "z2": "2"})
    service = stored_service()
    service["metadata"]["annotations"] = {"service.kubernetes.io/topology-mode": "Auto"}
    zones = hints.Zones()
    for node in nodes.list():
        assert zones.node_changed(None, node)

    def give(selected: list[Obj], existing: list[Obj]) -> tuple[Part, list[hints.Event]]:
        (part,) = sliceplan.of(service, selected, existing, nodes).parts
        return part, zones.give("default/web", service, part)

    part, told = give([running(n, node="n1" if n < 3 else "n2") for n in range(4)], [])
    counts = Counter(e["hints"]["forZones"][0]["name"] for s in part.create for e in s["endpoints"])
    assert counts == {"z1": 2, "z2": 2}, "an endpoint of the one zone serves the other"
    assert [reason for _, reason, _ in told] == ["TopologyAwareHintsEnabled"]
    assert zones.overloaded() == []
    (first,) = [node for node in nodes.list() if node["metadata"]["name"] == "n1"]
    larger = {**first, "status": {**first["status"], "allocatable": {"cpu": "20"}}}
    assert zones.node_changed(first, larger)
    assert zones.overloaded() == ["default/web"]
    assert not zones.node_changed(larger, {**larger, "spec": {"unschedulable": True}})
    unknown = {**larger, "metadata": {**larger["metadata"], "name": "n3", "labels": {}}}
    assert zones.node_changed(None, unknown)
    assert zones.overloaded() == ["default/web"], "nothing can be said of any zone"
    assert zones.node_changed(unknown, None)
    assert zones.node_changed(larger, first)
    assert zones.overloaded() == []
    part, told = give([running(1)], stored(part))
    assert [e.get("hints") for s in part.update for e in s["endpoints"]] == [None]
    ((type_, reason, text),) = told
    assert (type_, reason) == ("Warning", hints.DISABLED)
    assert text == "Insufficient number of endpoints (1 endpoints, 2 zones), addressType: IPv4"
