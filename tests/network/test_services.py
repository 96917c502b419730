"""The service proxy against a real kernel: pods, a node and a client outside are network namespaces."""

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest

from kubelite.meta.types import Obj
from kubelite.network.services import ServiceProxy
from tests.network import topology
from tests.network.objects import endpoint, endpoint_slice, service
from tests.network.topology import Topology

pytestmark = [pytest.mark.root, pytest.mark.slow]

SLICES = "endpointslices.discovery.k8s.io"
VIP = "10.96.0.20"


@pytest.fixture
def net() -> Iterator[Topology]:
    with topology.node() as built:
        yield built


class Proxied:
    """A running proxy and how tests tell it things."""

    def __init__(self, proxy: ServiceProxy) -> None:
        self.proxy = proxy

    async def tell(self, *objects: Obj | None) -> None:
        for obj in objects:
            assert obj is not None
            self.proxy.changed(SLICES if "addressType" in obj else "services", None, obj)
        await self.applied()

    async def forget(self, obj: Obj) -> None:
        self.proxy.changed(SLICES if "addressType" in obj else "services", obj, None)
        await self.applied()

    async def applied(self) -> None:
        async with asyncio.timeout(30):
            await self.proxy.wait_applied()


@pytest.fixture
async def proxy(net: Topology) -> AsyncIterator[Proxied]:
    made = ServiceProxy("n1", service_cidrs=("10.96.0.0/16",), external_ips=True)
    made.synced()
    task = asyncio.create_task(made.run())
    yield Proxied(made)
    task.cancel()
    await asyncio.wait([task])


async def test_cluster_ip_leads_from_a_pod_to_the_endpoints_and_back(net: Topology, proxy: Proxied) -> None:
    client, a, b = net.pod("client"), net.pod("a"), net.pod("b")
    await proxy.tell(service("web", VIP), endpoint_slice("web", endpoint(a), endpoint(b)))
    async with net.serving("a", 8080), net.serving("b", 8080):
        answers = [await net.ask("client", VIP, 80) for _ in range(20)]
    assert {server for server, _ in answers} == {"a", "b"}
    assert {seen for _, seen in answers} == {client}, "pods see each other's addresses"


async def test_cluster_ip_works_from_the_node(net: Topology, proxy: Proxied) -> None:
    await proxy.tell(service("web", VIP), endpoint_slice("web", endpoint(net.pod("a"))))
    async with net.serving("a", 8080):
        assert (await net.ask("", VIP, 80))[0] == "a"


async def test_pod_reaches_itself_through_its_service(net: Topology, proxy: Proxied) -> None:
    await proxy.tell(service("web", VIP), endpoint_slice("web", endpoint(net.pod("a"))))
    async with net.serving("a", 8080):
        assert (await net.ask("a", VIP, 80))[0] == "a"


async def test_changed_endpoints_are_followed(net: Topology, proxy: Proxied) -> None:
    net.pod("client")
    a, b = net.pod("a"), net.pod("b")
    await proxy.tell(service("web", VIP), endpoint_slice("web", endpoint(a)))
    async with net.serving("a", 8080), net.serving("b", 8080):
        assert (await net.ask("client", VIP, 80))[0] == "a"
        await proxy.tell(endpoint_slice("web", endpoint(b)))
        assert {(await net.ask("client", VIP, 80))[0] for _ in range(5)} == {"b"}


async def test_service_without_endpoints_refuses_at_once(net: Topology, proxy: Proxied) -> None:
    net.pod("client")
    await proxy.tell(
        service("web", VIP, type="NodePort", ports=[{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}])
    )
    for where, host, port in (("client", VIP, 80), ("", VIP, 80), ("outside", "192.0.2.1", 30080), ("client", VIP, 81)):
        with pytest.raises(ConnectionRefusedError):
            await net.ask(where, host, port)


async def test_an_address_that_no_service_has_leads_nowhere(net: Topology, proxy: Proxied) -> None:
    net.pod("client")
    await proxy.tell(service("web", VIP))
    unknown, beyond, dns = "10.96.0.99", "10.97.0.99", "10.96.0.10"
    for address in (unknown, beyond):
        net.own("outside", address)
    async with net.serving("outside", 80):
        assert (await net.ask("client", beyond, 80))[0] == "outside", "the default route leads there"
        for where in ("client", ""):
            with pytest.raises(TimeoutError):
                await net.ask(where, unknown, 80, timeout_s=0.5)
    net.own("", dns)
    async with net.serving("", 53):
        assert (await net.ask("client", dns, 53))[0] == ""


@pytest.mark.parametrize("label", ["service.kubernetes.io/headless", "service.kubernetes.io/service-proxy-name"])
async def test_a_service_whose_label_says_so_is_left_alone(net: Topology, proxy: Proxied, label: str) -> None:
    net.pod("client")
    web = service("web", VIP)
    await proxy.tell(web, endpoint_slice("web", endpoint(net.pod("a"))))
    async with net.serving("a", 8080):
        assert (await net.ask("client", VIP, 80))[0] == "a"
        await proxy.tell({**web, "metadata": {**web["metadata"], "labels": {label: "x"}}})
        with pytest.raises(TimeoutError):
            await net.ask("client", VIP, 80, timeout_s=0.5)


async def test_deleted_service_leaves_nothing(net: Topology, proxy: Proxied) -> None:
    a = net.pod("a")
    web, other = service("web", VIP, sessionAffinity="ClientIP"), service("other", "10.96.0.21")
    slices = endpoint_slice("web", endpoint(a))
    await proxy.tell(other)
    before = _ruleset()
    await proxy.tell(web, slices)
    assert _ruleset() != before
    await proxy.forget(web)
    await proxy.forget(slices)
    assert _ruleset() == before


async def test_node_port_leads_in_from_outside_with_the_nodes_address(net: Topology, proxy: Proxied) -> None:
    ports = [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}]
    await proxy.tell(service("web", VIP, type="NodePort", ports=ports), endpoint_slice("web", endpoint(net.pod("a"))))
    async with net.serving("a", 8080):
        assert await net.ask("outside", "192.0.2.1", 30080) == ("a", "10.244.0.1")
        assert (await net.ask("", "192.0.2.1", 30080))[0] == "a"
        assert (await net.ask("", "127.0.0.1", 30080))[0] == "a"


async def test_a_health_check_tells_whether_the_node_has_endpoints(net: Topology, proxy: Proxied) -> None:
    async def asked(port: int = 30900) -> tuple[int, Obj]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert b"Content-Type: application/json" in head
        return int(head.split()[1]), json.loads(body)

    local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30900}
    web = service("web", VIP, **local)
    here, there = endpoint("10.244.0.9"), endpoint("10.244.1.9", node="n2")
    told = {"service": {"namespace": "default", "name": "web"}, "serviceProxyHealthy": True}
    await proxy.tell(web, endpoint_slice("web", there))
    assert await asked() == (503, {**told, "localEndpoints": 0})
    await proxy.tell(endpoint_slice("web", here, there))
    assert await asked() == (200, {**told, "localEndpoints": 1})
    await proxy.tell(endpoint_slice("web", {**here, "conditions": {"ready": False, "serving": True, "terminating": True}}))
    assert await asked() == (503, {**told, "localEndpoints": 0})
    await proxy.tell(service("web", VIP, **{**local, "healthCheckNodePort": 30901}))
    assert (await asked(30901))[0] == 503
    with pytest.raises(ConnectionRefusedError):
        await asked()
    await proxy.forget(web)
    with pytest.raises(ConnectionRefusedError):
        await asked(30901)


async def test_loopback_services_of_the_node_stay_out_of_reach(net: Topology, proxy: Proxied) -> None:
    """Node ports on 127.0.0.1 need route_localnet, which must not open the node's own loopback services (CVE-2020-8558)."""
    net.pod("a")
    await proxy.tell(service("web", VIP))
    net.route("a", "127.0.0.0/8", "10.244.0.1")
    loop = asyncio.get_running_loop()
    with net.socket("", socket.SOCK_DGRAM) as victim, net.socket("a", socket.SOCK_DGRAM) as attacker:
        victim.bind(("127.0.0.1", 9000))
        victim.setblocking(False)
        attacker.bind(("10.244.0.5", 0))
        attacker.sendto(b"attack", ("127.0.0.1", 9000))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await loop.sock_recv(victim, 10)
        # without the guard it would have come through
        subprocess.run(["nft", "flush", "chain", "inet", proxy.proxy.table, "guard"], check=True)
        attacker.sendto(b"attack", ("127.0.0.1", 9000))
        async with asyncio.timeout(30):
            assert await loop.sock_recv(victim, 10) == b"attack"


async def test_external_policy_local_keeps_the_clients_address(net: Topology, proxy: Proxied) -> None:
    ports = [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}]
    web = service("web", VIP, type="NodePort", ports=ports, externalTrafficPolicy="Local")
    await proxy.tell(web, endpoint_slice("web", endpoint(net.pod("a")), endpoint("10.244.9.9", node="n2")))
    async with net.serving("a", 8080):
        assert {await net.ask("outside", "192.0.2.1", 30080) for _ in range(10)} == {("a", "192.0.2.2")}


async def test_external_policy_local_without_local_endpoints_drops(net: Topology, proxy: Proxied) -> None:
    ports = [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}]
    web = service("web", VIP, type="NodePort", ports=ports, externalTrafficPolicy="Local")
    a = net.pod("a")
    await proxy.tell(web, endpoint_slice("web", endpoint(a, node="n2")))
    async with net.serving("a", 8080):
        with pytest.raises(TimeoutError):
            await net.ask("outside", "192.0.2.1", 30080, timeout_s=0.5)
        # from this node and its pods the policy does not count
        assert (await net.ask("", "192.0.2.1", 30080))[0] == "a"
        net.pod("client")
        assert (await net.ask("client", "192.0.2.1", 30080))[0] == "a"
        assert (await net.ask("client", VIP, 80))[0] == "a"


async def test_internal_policy_local_uses_local_endpoints_only(net: Topology, proxy: Proxied) -> None:
    net.pod("client")
    a, b = net.pod("a"), net.pod("b")
    slices = endpoint_slice("web", endpoint(a), endpoint(b, node="n2"))
    await proxy.tell(service("web", VIP, internalTrafficPolicy="Local"), slices)
    async with net.serving("a", 8080), net.serving("b", 8080):
        assert {(await net.ask("client", VIP, 80))[0] for _ in range(10)} == {"a"}


async def test_session_affinity_keeps_a_client_at_its_endpoint(net: Topology, proxy: Proxied) -> None:
    net.pod("client")
    a, b, c = net.pod("a"), net.pod("b"), net.pod("c")
    web = service("web", VIP, sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}})
    await proxy.tell(web, endpoint_slice("web", endpoint(a), endpoint(b), endpoint(c)))
    async with net.serving("a", 8080), net.serving("b", 8080), net.serving("c", 8080):
        (chosen,) = {(await net.ask("client", VIP, 80))[0] for _ in range(12)}
        # another service's change does not make it forget
        await proxy.tell(service("other", "10.96.0.21"))
        assert {(await net.ask("client", VIP, 80))[0] for _ in range(6)} == {chosen}
        left = [endpoint(address) for name, address in (("a", a), ("b", b), ("c", c)) if name != chosen]
        await proxy.tell(endpoint_slice("web", *left))
        (second,) = {(await net.ask("client", VIP, 80))[0] for _ in range(12)}
        assert second != chosen
        web["spec"] = {**web["spec"], "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 90}}}
        await proxy.tell({**web})
        assert len({(await net.ask("client", VIP, 80))[0] for _ in range(12)}) == 1


async def test_external_and_load_balancer_addresses_lead_in(net: Topology, proxy: Proxied) -> None:
    web = service("web", VIP, type="LoadBalancer", externalIPs=["198.51.100.7"])
    web["status"] = {"loadBalancer": {"ingress": [{"ip": "198.51.100.8"}]}}
    await proxy.tell(web, endpoint_slice("web", endpoint(net.pod("a"))))
    async with net.serving("a", 8080):
        assert (await net.ask("outside", "198.51.100.7", 80))[0] == "a"
        assert (await net.ask("outside", "198.51.100.8", 80))[0] == "a"


async def test_cve_2020_8554_external_ips_are_off_unless_allowed(net: Topology) -> None:
    made = ServiceProxy("n1")
    made.synced()
    task = asyncio.create_task(made.run())
    web = service("web", VIP, externalIPs=["198.51.100.7"])
    await Proxied(made).tell(web, endpoint_slice("web", endpoint(net.pod("a"))))
    assert VIP in _ruleset()
    assert "198.51.100.7" not in _ruleset()
    task.cancel()
    await asyncio.wait([task])


async def test_load_balancer_source_ranges_shut_others_out(net: Topology, proxy: Proxied) -> None:
    web = service("web", VIP, type="LoadBalancer", loadBalancerSourceRanges=["203.0.113.0/24"])
    web["status"] = {"loadBalancer": {"ingress": [{"ip": "198.51.100.8"}]}}
    await proxy.tell(web, endpoint_slice("web", endpoint(net.pod("a"))))
    async with net.serving("a", 8080):
        with pytest.raises(TimeoutError):
            await net.ask("outside", "198.51.100.8", 80, timeout_s=0.5)
        web["spec"] = {**web["spec"], "loadBalancerSourceRanges": ["192.0.2.0/24"]}
        await proxy.tell({**web})
        assert (await net.ask("outside", "198.51.100.8", 80))[0] == "a"


async def test_terminating_endpoints_serve_while_none_is_ready(net: Topology, proxy: Proxied) -> None:
    net.pod("client")
    a, b = net.pod("a"), net.pod("b")
    ending = endpoint(a, ready=False, serving=True, terminating=True)
    await proxy.tell(service("web", VIP), endpoint_slice("web", ending))
    async with net.serving("a", 8080), net.serving("b", 8080):
        assert (await net.ask("client", VIP, 80))[0] == "a"
        await proxy.tell(endpoint_slice("web", ending, endpoint(b)))
        assert {(await net.ask("client", VIP, 80))[0] for _ in range(6)} == {"b"}


async def test_udp_client_that_keeps_its_port_follows_to_the_new_endpoint(net: Topology, proxy: Proxied) -> None:
    net.pod("client")
    a, b = net.pod("a"), net.pod("b")
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}]
    there = [{"name": "dns", "port": 5353, "protocol": "UDP"}]
    await proxy.tell(service("names", VIP, ports=ports), endpoint_slice("names", endpoint(a), ports=there))
    loop = asyncio.get_running_loop()
    servers = {(name, port): net.socket(name, socket.SOCK_DGRAM) for name, port in (("a", 5353), ("b", 5353), ("b", 5454))}
    client = net.socket("client", socket.SOCK_DGRAM)
    for made in (client, *servers.values()):
        made.setblocking(False)
    for (_, port), made in servers.items():
        made.bind(("0.0.0.0", port))
    client.connect((VIP, 53))
    async with asyncio.timeout(30):
        await loop.sock_sendall(client, b"1")
        assert (await loop.sock_recvfrom(servers["a", 5353], 10))[0] == b"1"
        await proxy.tell(endpoint_slice("names", endpoint(b), ports=there))
        await loop.sock_sendall(client, b"2")
        assert (await loop.sock_recvfrom(servers["b", 5353], 10))[0] == b"2"
        await proxy.tell(endpoint_slice("names", endpoint(b), ports=[{**there[0], "port": 5454}]))
        await loop.sock_sendall(client, b"3")
        assert (await loop.sock_recvfrom(servers["b", 5454], 10))[0] == b"3"
    for made in (client, *servers.values()):
        made.close()


async def test_rules_that_somebody_removed_are_made_anew(net: Topology, proxy: Proxied) -> None:
    net.pod("client")
    a, b = net.pod("a"), net.pod("b")
    await proxy.tell(service("web", VIP), endpoint_slice("web", endpoint(a)))
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    await proxy.tell(endpoint_slice("web", endpoint(b)))  # fails, and is followed by all of it
    async with net.serving("b", 8080):
        assert (await net.ask("client", VIP, 80))[0] == "b"


async def test_proxies_of_two_nodes_share_a_machine(net: Topology, proxy: Proxied) -> None:
    net.pod("client")
    web, slices = service("web", VIP), endpoint_slice("web", endpoint(net.pod("a")))
    await proxy.tell(web, slices)
    other = ServiceProxy("n2")
    other.synced()
    task = asyncio.create_task(other.run())
    await Proxied(other).tell(web, slices)
    async with net.serving("a", 8080):
        assert (await net.ask("client", VIP, 80))[0] == "a"
        assert (await net.ask("", VIP, 80))[0] == "a"
    await proxy.proxy.remove()
    async with net.serving("a", 8080):
        assert (await net.ask("client", VIP, 80))[0] == "a"
    task.cancel()
    await asyncio.wait([task])


async def test_a_thousand_services_cost_one_batch(net: Topology) -> None:
    proxy = ServiceProxy("n1")
    for number in range(1000):
        name = f"s{number}"
        proxy.changed("services", None, service(name, f"10.96.{1 + number // 250}.{1 + number % 250}"))
        proxy.changed(SLICES, None, endpoint_slice(name, endpoint("10.244.0.5"), endpoint("10.244.0.6")))
    proxy.synced()
    task = asyncio.create_task(proxy.run())
    await Proxied(proxy).applied()
    assert proxy.statistics()["batches"] == 1
    await Proxied(proxy).tell(endpoint_slice("s1", endpoint("10.244.0.7")))
    assert proxy.statistics()["batches"] == 2
    task.cancel()
    await asyncio.wait([task])


def _ruleset() -> str:
    return subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout
