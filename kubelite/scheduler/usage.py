"""What the pods of the nodes have that others can't have as well: host ports, disks, claims. By thing, then by row, since few
nodes have any of one.
"""

from typing import TypeVar

from kubelite.scheduler.templates import Disk, Template

_K = TypeVar("_K")
_V = TypeVar("_V")

#: (namespace, name)
ClaimKey = tuple[str, str]


class Usage:
    """Kept by the snapshot as pods come and go."""

    def __init__(self) -> None:
        #: By (protocol, port): {row: addresses}.
        self.ports: dict[tuple[str, int], dict[int, list[str]]] = {}
        #: By what says which disk it is: {row: uses of it}.
        self.disks: dict[tuple[str, ...], dict[int, list[Disk]]] = {}
        #: How many pods use a claim, all over the cluster.
        self.claim_users: dict[ClaimKey, int] = {}
        #: By row: how many pods there use which claims.
        self.claims: dict[int, dict[ClaimKey, int]] = {}

    def count(self, row: int, template: Template, sign: int) -> None:
        """Counts a pod of the template in (`sign` 1) or out (-1)."""
        for protocol, port, address in template.host_ports:
            _count(self.ports, (protocol, port), row, address, sign)
        for disk in template.disks:
            _count(self.disks, disk.key, row, disk, sign)
        for claim in template.claims:
            key = template.namespace, claim.name
            _sum(self.claim_users, key, sign)
            of_row = self.claims.setdefault(row, {})
            _sum(of_row, key, sign)
            if not of_row:
                del self.claims[row]


def _count(index: dict[_K, dict[int, list[_V]]], key: _K, row: int, value: _V, sign: int) -> None:
    rows = index.setdefault(key, {})
    if sign > 0:
        rows.setdefault(row, []).append(value)
        return
    rows[row].remove(value)
    if not rows[row]:
        del rows[row]
        if not rows:
            del index[key]


def _sum(counts: dict[ClaimKey, int], key: ClaimKey, sign: int) -> None:
    count = counts.get(key, 0) + sign
    if count:
        counts[key] = count
    else:
        del counts[key]
