"""Who asks: the identity that authentication establishes and everything after it reads."""

from dataclasses import dataclass, field

ANONYMOUS = "system:anonymous"
UNAUTHENTICATED_GROUP = "system:unauthenticated"
AUTHENTICATED_GROUP = "system:authenticated"
MASTERS_GROUP = "system:masters"
NODES_GROUP = "system:nodes"
NODE_PREFIX = "system:node:"
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated identity. `extra` values are lists, as in a TokenReview."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: dict[str, list[str]] = field(default_factory=dict)

    @property
    def node_name(self) -> str:
        """The node's name when this is a node's identity, else an empty string."""
        if self.name.startswith(NODE_PREFIX) and NODES_GROUP in self.groups:
            return self.name.removeprefix(NODE_PREFIX)
        return ""


#: The identity of the parts that run inside the server's process before they have one of their own.
LOOPBACK = User("system:apiserver", (MASTERS_GROUP, AUTHENTICATED_GROUP))
