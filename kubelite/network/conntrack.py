"""Forgetting UDP flows that lead to endpoints that are gone.

A UDP client that keeps its port would go on reaching the old endpoint, because the kernel's connection tracking translates
each packet as it did the first. TCP needs none of this: its connections end by themselves.
"""

from collections.abc import Mapping

import structlog

from kubelite.network import nft

log = structlog.get_logger(__name__)

Socket = tuple[str, int]
Udp = Mapping[Socket, frozenset[Socket]]

_NOTHING_DELETED = 1


async def forget_stale(was: Udp, now: Udp) -> None:
    """Deletes the flows of endpoints that a UDP port had and no longer has; and, where it had none, those that went nowhere."""
    for (address, port), before in was.items():
        after = now.get((address, port), frozenset())
        match = ["-p", "udp", "--dport", str(port), *(["--orig-dst", address] if address else [])]
        for endpoint, endpoint_port in before - after:
            await _delete(*match, "--dst-nat", endpoint, "--reply-port-src", str(endpoint_port))
    for (address, port), after in now.items():
        if after and not was.get((address, port)):
            await _delete("-p", "udp", "--dport", str(port), *(["--orig-dst", address] if address else []))


async def _delete(*match: str) -> None:
    status, _, errors = await nft.run("conntrack", "-D", *match)
    if status == 127:
        log.warning("udp_flows_not_forgotten", error=errors, remedy="apt-get install conntrack")
    elif status not in (0, _NOTHING_DELETED):
        log.warning("udp_flows_not_forgotten", error=errors.strip(), match=" ".join(match))
