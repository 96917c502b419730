"""Services: addresses, families, node ports."""

import asyncio
from typing import Any

import pytest

from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.registry.allocators import Full, Pool
from kubelite.registry.registry import Registry
from tests.registry.conftest import Cluster


def service(name: str = "web", **spec: Any) -> Obj:
    body = {"selector": {"app": "web"}, "ports": [{"port": 80}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": body}


async def test_a_service_gets_an_address(cluster: Cluster) -> None:
    spec = (await cluster.create("services", service()))["spec"]
    assert spec["clusterIP"].startswith("10.96.")
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")
    assert "nodePort" not in spec["ports"][0]


async def test_an_address_is_recorded_as_an_ip_address(cluster: Cluster) -> None:
    spec = (await cluster.create("services", service()))["spec"]
    ip = spec["clusterIP"]
    async with asyncio.timeout(30):
        while cluster.names(await cluster.page("ipaddresses.networking.k8s.io")) != [ip]:
            await asyncio.sleep(0)
    await cluster.delete("services", "web")
    async with asyncio.timeout(30):
        while (await cluster.page("ipaddresses.networking.k8s.io")).items:
            await asyncio.sleep(0)


async def test_an_address_can_be_asked_for_once(cluster: Cluster) -> None:
    await cluster.create("services", service("a", clusterIP="10.96.0.10"))
    with pytest.raises(errors.Invalid) as caught:
        await cluster.create("services", service("b", clusterIP="10.96.0.10"))
    assert caught.value.message == (
        'Service "b" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.10"]: '
        "failed to allocate IP 10.96.0.10: provided IP is already allocated"
    )
    await cluster.delete("services", "a")
    await cluster.create("services", service("b", clusterIP="10.96.0.10"))


async def test_an_address_outside_of_the_range_is_refused(cluster: Cluster) -> None:
    with pytest.raises(errors.Invalid, match=r"the provided network does not match the current range"):
        await cluster.create("services", service(clusterIP="192.168.1.1"))


async def test_a_headless_service_has_none(cluster: Cluster) -> None:
    spec = (await cluster.create("services", service(clusterIP="None")))["spec"]
    assert (spec["clusterIP"], spec["clusterIPs"]) == ("None", ["None"])


async def test_an_external_name_needs_no_address(cluster: Cluster) -> None:
    body = service(type="ExternalName", externalName="example.com", ports=None, selector=None)
    spec = (await cluster.create("services", body))["spec"]
    assert "clusterIP" not in spec
    assert "ipFamilies" not in spec


async def test_a_failed_create_gives_back_what_it_took(cluster: Cluster) -> None:
    pools = cluster.registry.allocators
    before = (set(pools.ips["IPv4"].used), set(pools.ports.used))
    with pytest.raises(errors.Invalid):
        await cluster.create("services", service(type="NodePort", ports=[{"port": 0}]))
    await cluster.create("services", service(type="NodePort"), dry_run=True)
    assert (pools.ips["IPv4"].used, pools.ports.used) == before


async def test_node_ports_are_given_out_and_back(cluster: Cluster) -> None:
    made = await cluster.create("services", service(type="NodePort"))
    port = made["spec"]["ports"][0]["nodePort"]
    assert 30000 <= port <= 32767
    assert port in cluster.registry.allocators.ports.used
    changed = await cluster.update("services", {**made, "spec": {**made["spec"], "type": "ClusterIP"}})
    assert "nodePort" not in changed["spec"]["ports"][0]
    assert "externalTrafficPolicy" not in changed["spec"]
    assert port not in cluster.registry.allocators.ports.used
    assert changed["spec"]["clusterIP"] == made["spec"]["clusterIP"]


async def test_a_taken_node_port_is_refused(cluster: Cluster) -> None:
    await cluster.create("services", service("a", type="NodePort", ports=[{"port": 80, "nodePort": 30080}]))
    with pytest.raises(errors.Invalid, match=r"nodePort: Invalid value: 30080: provided port is already allocated"):
        await cluster.create("services", service("b", type="NodePort", ports=[{"port": 80, "nodePort": 30080}]))
    with pytest.raises(errors.Invalid, match=r"The range of valid ports is 30000-32767"):
        await cluster.create("services", service("b", type="NodePort", ports=[{"port": 80, "nodePort": 80}]))


async def test_two_protocols_of_a_port_share_a_node_port(cluster: Cluster) -> None:
    ports = [{"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"}]
    made = await cluster.create("services", service(type="NodePort", ports=ports))
    first, second = (port["nodePort"] for port in made["spec"]["ports"])
    assert first == second


async def test_an_update_that_leaves_allocations_out_keeps_them(cluster: Cluster) -> None:
    made = await cluster.create("services", service(type="NodePort"))
    same = await cluster.update("services", service(type="NodePort"))
    assert same["spec"] == made["spec"]
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_the_address_of_a_service_does_not_change(cluster: Cluster) -> None:
    await cluster.create("services", service(clusterIP="10.96.0.20"))
    with pytest.raises(errors.Invalid, match=r"spec.clusterIPs\[0\]: Invalid value: .*: may not change once set"):
        await cluster.patch("services", "web", b'{"spec":{"clusterIP":"10.96.0.21"}}')


async def test_an_external_name_becomes_a_cluster_ip_and_back(cluster: Cluster) -> None:
    made = await cluster.create("services", service(type="ExternalName", externalName="example.com"))
    made = await cluster.patch("services", "web", b'{"spec":{"type":"ClusterIP","externalName":null}}')
    ip = made["spec"]["clusterIP"]
    assert ip.startswith("10.96.")
    made = await cluster.patch("services", "web", b'{"spec":{"type":"ExternalName","externalName":"example.com"}}')
    assert "clusterIP" not in made["spec"]
    again = await cluster.create("services", service("other", clusterIP=ip))
    assert again["spec"]["clusterIP"] == ip


async def test_a_local_load_balancer_has_a_health_check_port(cluster: Cluster) -> None:
    made = await cluster.create("services", service(type="LoadBalancer", externalTrafficPolicy="Local"))
    port = made["spec"]["healthCheckNodePort"]
    assert port in cluster.registry.allocators.ports.used
    changed = await cluster.patch("services", "web", b'{"spec":{"externalTrafficPolicy":"Cluster"}}')
    assert "healthCheckNodePort" not in changed["spec"]
    assert port not in cluster.registry.allocators.ports.used


async def test_what_is_in_use_is_known_after_a_restart(cluster: Cluster) -> None:
    made = await cluster.create("services", service(type="NodePort"))
    old = cluster.registry
    fresh = Registry(old.store, old.kinds, old.admission, old.settings)
    fresh.allocators.load()
    assert made["spec"]["ports"][0]["nodePort"] in fresh.allocators.ports.used
    assert fresh.allocators.ips["IPv4"].used == old.allocators.ips["IPv4"].used


async def test_a_service_cidr_adds_addresses(cluster: Cluster) -> None:
    cidr = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "more"},
        "spec": {"cidrs": ["10.200.0.0/24"]},
    }
    await cluster.create("servicecidrs.networking.k8s.io", cidr)
    made = await cluster.create("services", service(clusterIP="10.200.0.7"))
    assert made["spec"]["clusterIP"] == "10.200.0.7"


async def test_a_dual_stack_is_refused_where_there_is_one(cluster: Cluster) -> None:
    with pytest.raises(errors.Invalid, match=r"this cluster is not configured for dual-stack services"):
        await cluster.create("services", service(ipFamilyPolicy="RequireDualStack"))


async def test_a_service_without_ports_is_invalid(cluster: Cluster) -> None:
    with pytest.raises(errors.Invalid, match=r"spec.ports: Required value"):
        await cluster.create("services", service(ports=[]))
    with pytest.raises(errors.Invalid, match=r"a DNS-1035 label must consist of"):
        await cluster.create("services", service("1web"))


def test_a_pool_gives_out_all_it_has_then_is_full() -> None:
    pool = Pool([(1, 20, 4)])
    picked = [pool.pick() for _ in range(20)]
    assert sorted(picked) == list(range(1, 21))
    assert all(number > 4 for number in picked[:16])
    with pytest.raises(Full):
        pool.pick()
