"""Cluster DNS: what the zone answers, and the server over real sockets."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import dnslib
import pytest

from kubelite.meta.types import Obj
from kubelite.network import dns, dnswire
from kubelite.network.dns import DnsServer
from tests.network.objects import endpoint, endpoint_slice, service

SLICES = "endpointslices.discovery.k8s.io"


class Upstream(asyncio.DatagramProtocol):
    """A public server that knows one name."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dnslib.DNSRecord.parse(data)
        self.asked.append(str(query.q.qname))
        reply = query.reply()
        if str(query.q.qname) == "example.com." and query.q.qtype == dnslib.QTYPE.A:
            reply.add_answer(dnslib.RR("example.com.", rdata=dnslib.A("203.0.113.9"), ttl=60))
        else:
            reply.header.rcode = dnslib.RCODE.NXDOMAIN
        self._transport.sendto(reply.pack(), addr)  # type: ignore[attr-defined]


class Served:
    def __init__(self, server: DnsServer, upstream: Upstream) -> None:
        self.server, self.upstream = server, upstream

    def tell(self, *objects: Obj) -> None:
        for obj in objects:
            self.server.changed(SLICES if "addressType" in obj else "services", None, obj)

    async def ask(self, name: str, kind: str = "A", *, edns: int = 0) -> dnslib.DNSRecord:
        query = dnslib.DNSRecord.question(name, kind)
        if edns:
            query.add_ar(dnslib.EDNS0(udp_len=edns))
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(("127.0.0.1", self.server.port))
            await loop.sock_sendall(client, query.pack())
            async with asyncio.timeout(30):
                answer = dnslib.DNSRecord.parse(await loop.sock_recv(client, 65535))
        assert answer.header.id == query.header.id
        return answer

    async def values(self, name: str, kind: str = "A") -> list[str]:
        answer = await self.ask(name, kind)
        assert answer.header.rcode == dnslib.RCODE.NOERROR
        return sorted(str(rr.rdata) for rr in answer.rr)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    loop = asyncio.get_running_loop()
    transport, upstream = await loop.create_datagram_endpoint(Upstream, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    server = DnsServer("127.0.0.1", port=0, cidrs=["10.96.0.0/16", "10.244.0.0/16"], upstreams=[f"127.0.0.1:{port}"])
    server.synced()
    task = asyncio.create_task(server.run())
    await server.ready.wait()
    yield Served(server, upstream)
    task.cancel()
    await asyncio.wait([task])
    transport.close()


WEB = service("web", "10.96.0.20")
DATABASE = service("db", "None", ports=[{"name": "sql", "port": 5432, "protocol": "TCP"}])
DATABASE_SLICE = endpoint_slice(
    "db",
    endpoint("10.244.0.5", hostname="db-0"),
    endpoint("10.244.0.6"),
    ports=[{"name": "sql", "port": 5432, "protocol": "TCP"}],
)


async def test_service_has_its_cluster_ip(served: Served) -> None:
    served.tell(WEB)
    assert await served.values("web.default.svc.cluster.local") == ["10.96.0.20"]
    assert await served.values("WEB.Default.svc.cluster.LOCAL") == ["10.96.0.20"]


async def test_answer_repeats_the_question_as_it_was_spelt(served: Served) -> None:
    served.tell(WEB)
    answer = await served.ask("wEb.default.svc.cluster.local")
    assert str(answer.q.qname) == "wEb.default.svc.cluster.local."
    assert answer.header.aa
    assert answer.header.ra


async def test_other_types_of_a_known_name_have_no_data_but_an_soa(served: Served) -> None:
    served.tell(WEB)
    answer = await served.ask("web.default.svc.cluster.local", "AAAA")
    assert answer.header.rcode == dnslib.RCODE.NOERROR
    assert answer.rr == []
    assert [str(rr.rname) for rr in answer.auth] == ["cluster.local."]
    assert answer.auth[0].rtype == dnslib.QTYPE.SOA


@pytest.mark.parametrize(
    "name",
    [
        "nothing.default.svc.cluster.local",
        "web.other.svc.cluster.local",
        "web.default.svc.cluster.local.default.svc.cluster.local",
        "x.web.default.svc.cluster.local",
        "other.svc.cluster.local",
        "bogus.cluster.local",
    ],
)
async def test_unknown_names_do_not_exist(served: Served, name: str) -> None:
    served.tell(WEB)
    answer = await served.ask(name)
    assert answer.header.rcode == dnslib.RCODE.NXDOMAIN
    assert answer.auth[0].rtype == dnslib.QTYPE.SOA
    assert served.upstream.asked == []


async def test_dual_stack_service_has_both_addresses(served: Served) -> None:
    both = service("both", "10.96.0.30")
    both["spec"]["clusterIPs"] = ["10.96.0.30", "fd00::30"]
    served.tell(both)
    assert await served.values("both.default.svc.cluster.local") == ["10.96.0.30"]
    assert await served.values("both.default.svc.cluster.local", "AAAA") == ["fd00::30"]


async def test_named_port_has_a_service_record(served: Served) -> None:
    served.tell(WEB)
    answer = await served.ask("_http._tcp.web.default.svc.cluster.local", "SRV")
    assert [str(rr.rdata) for rr in answer.rr] == ["0 100 80 web.default.svc.cluster.local."]
    assert [(str(rr.rname), str(rr.rdata)) for rr in answer.ar] == [("web.default.svc.cluster.local.", "10.96.0.20")]
    assert (await served.ask("_http._udp.web.default.svc.cluster.local", "SRV")).header.rcode == dnslib.RCODE.NXDOMAIN
    assert (await served.ask("_tcp.web.default.svc.cluster.local", "SRV")).header.rcode == dnslib.RCODE.NOERROR


async def test_headless_service_has_its_endpoints_addresses_and_names(served: Served) -> None:
    served.tell(DATABASE, DATABASE_SLICE)
    assert await served.values("db.default.svc.cluster.local") == ["10.244.0.5", "10.244.0.6"]
    assert await served.values("db-0.db.default.svc.cluster.local") == ["10.244.0.5"]
    assert await served.values("10-244-0-6.db.default.svc.cluster.local") == ["10.244.0.6"]
    assert await served.values("_sql._tcp.db.default.svc.cluster.local", "SRV") == [
        "0 100 5432 10-244-0-6.db.default.svc.cluster.local.",
        "0 100 5432 db-0.db.default.svc.cluster.local.",
    ]


async def test_headless_service_leaves_out_what_is_not_ready(served: Served) -> None:
    served.tell(DATABASE, endpoint_slice("db", endpoint("10.244.0.5", ready=False), endpoint("10.244.0.6")))
    assert await served.values("db.default.svc.cluster.local") == ["10.244.0.6"]
    served.tell(endpoint_slice("db"))
    assert (await served.ask("db.default.svc.cluster.local")).header.rcode == dnslib.RCODE.NXDOMAIN


async def test_changes_are_answered_at_once(served: Served) -> None:
    served.tell(WEB)
    assert await served.values("web.default.svc.cluster.local") == ["10.96.0.20"]
    served.tell(service("web", "10.96.0.99"))
    assert await served.values("web.default.svc.cluster.local") == ["10.96.0.99"]
    served.server.changed("services", WEB, None)
    assert (await served.ask("web.default.svc.cluster.local")).header.rcode == dnslib.RCODE.NXDOMAIN


async def test_addresses_lead_back_to_names(served: Served) -> None:
    served.tell(WEB, DATABASE, DATABASE_SLICE)
    assert await served.values("20.0.96.10.in-addr.arpa", "PTR") == ["web.default.svc.cluster.local."]
    assert await served.values("5.0.244.10.in-addr.arpa", "PTR") == ["db-0.db.default.svc.cluster.local."]
    assert (await served.ask("21.0.96.10.in-addr.arpa", "PTR")).header.rcode == dnslib.RCODE.NXDOMAIN
    assert served.upstream.asked == []
    served.server.changed("services", DATABASE, None)
    assert (await served.ask("5.0.244.10.in-addr.arpa", "PTR")).header.rcode == dnslib.RCODE.NXDOMAIN


async def test_pod_name_is_its_address(served: Served) -> None:
    assert await served.values("10-244-0-5.default.pod.cluster.local") == ["10.244.0.5"]
    assert await served.values("fd00--5.default.pod.cluster.local", "AAAA") == ["fd00::5"]
    assert (await served.ask("not-an-address.default.pod.cluster.local")).header.rcode == dnslib.RCODE.NXDOMAIN


async def test_specification_version_is_told(served: Served) -> None:
    assert await served.values("dns-version.cluster.local", "TXT") == ['"1.1.0"']


async def test_external_name_is_an_alias_with_what_it_stands_for(served: Served) -> None:
    served.tell(service("out", type="ExternalName", externalName="example.com"))
    answer = await served.ask("out.default.svc.cluster.local")
    assert [(dnslib.QTYPE[rr.rtype], str(rr.rdata)) for rr in answer.rr] == [("CNAME", "example.com."), ("A", "203.0.113.9")]
    answer = await served.ask("out.default.svc.cluster.local", "CNAME")
    assert [str(rr.rdata) for rr in answer.rr] == ["example.com."]


async def test_external_name_of_a_cluster_name_is_followed_here(served: Served) -> None:
    served.tell(WEB, service("alias", type="ExternalName", externalName="web.default.svc.cluster.local"))
    answer = await served.ask("alias.default.svc.cluster.local")
    assert [str(rr.rdata) for rr in answer.rr] == ["web.default.svc.cluster.local.", "10.96.0.20"]


async def test_external_names_in_a_circle_end(served: Served) -> None:
    served.tell(
        service("a", type="ExternalName", externalName="b.default.svc.cluster.local"),
        service("b", type="ExternalName", externalName="a.default.svc.cluster.local"),
    )
    assert (await served.ask("a.default.svc.cluster.local")).header.rcode == dnslib.RCODE.SERVFAIL


async def test_other_names_are_forwarded(served: Served) -> None:
    assert await served.values("example.com") == ["203.0.113.9"]
    assert (await served.ask("no.example.org")).header.rcode == dnslib.RCODE.NXDOMAIN
    assert served.upstream.asked == ["example.com.", "no.example.org."]


async def test_single_labels_are_not_forwarded(served: Served) -> None:
    assert (await served.ask("web")).header.rcode == dnslib.RCODE.NXDOMAIN
    assert served.upstream.asked == []


async def test_long_answers_are_cut_and_come_whole_over_tcp(served: Served) -> None:
    served.tell(DATABASE, endpoint_slice("db", *(endpoint(f"10.244.1.{n}") for n in range(1, 101))))
    name = "db.default.svc.cluster.local"
    cut = await served.ask(name)
    assert cut.header.tc
    assert cut.rr == []
    assert len((await served.ask(name, edns=4096)).rr) == 100
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
    for _ in range(2):  # one connection takes several queries
        query = dnslib.DNSRecord.question(name).pack()
        writer.write(struct.pack(">H", len(query)) + query)
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        assert len(dnslib.DNSRecord.parse(await reader.readexactly(length)).rr) == 100
    writer.close()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0",
        b"\0" * 11,
        b"\x12\x34\x01\0\0\1" + b"\0" * 6,
        b"\x12\x34\x01\0\0\1" + b"\0" * 6 + b"\xc0\x0c\0\1\0\1",
        b"\xff" * 40,
    ],
)
async def test_garbage_harms_nothing(served: Served, message: bytes) -> None:
    answer = served.server.answer_nowait(message)
    assert answer is not None
    assert answer == b"" or answer[3] & 15 == dnswire.FORMERR
    served.tell(WEB)
    assert await served.values("web.default.svc.cluster.local") == ["10.96.0.20"]


def test_hosts_servers_are_read_from_resolv_conf_without_our_own(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("# comment\nsearch example.com\nnameserver 10.96.0.10\nnameserver 192.0.2.53\n")
    assert dns.Forwarder("10.96.0.10", path).upstreams() == ["192.0.2.53"]
    assert dns.Forwarder("10.96.0.10", tmp_path / "none").upstreams() == []
