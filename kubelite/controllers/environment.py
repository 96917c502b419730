"""What every controller is given."""

from collections.abc import Callable
from dataclasses import dataclass, field

from kubelite.client.contract import Client
from kubelite.client.events import EventRecorder
from kubelite.client.informers import Informers
from kubelite.meta import times
from kubelite.meta.types import Obj
from kubelite.schema.kinds import Kinds


@dataclass(frozen=True, slots=True)
class Settings:
    """How the controllers of this cluster are set. A function that is None turns off what needs it."""

    #: The certificates that pods verify the API server with, as PEM.
    root_ca_pem: str = ""
    #: Pod networks are cut from here, one of the mask's size for each node; empty: nodes get none.
    cluster_cidr: str = "10.244.0.0/16"
    node_cidr_bits: int = 24
    service_cidr: str = "10.96.0.0/16"
    #: A node that has not been heard of for this long is Unknown.
    node_grace_s: float = 50.0
    #: A node that never reported at all gets this long.
    node_startup_grace_s: float = 60.0
    #: Terminated pods that are kept.
    terminated_pods_kept: int = 12500
    #: Makes the token of a service-account-token secret: (service account, secret) -> token.
    mint_token: Callable[[Obj, Obj], str] | None = None
    #: Signs a request: (CSR as PEM, signer name, usages, lifetime in s or None) -> certificate chain as PEM.
    #: Raises ValueError where the request is not what the signer signs.
    sign_csr: Callable[[bytes, str, list[str], int | None], bytes] | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """The client to write with, what is known, and how to tell users."""

    client: Client
    informers: Informers
    events: EventRecorder
    kinds: Kinds
    settings: Settings = field(default_factory=Settings)

    @staticmethod
    def now() -> float:
        """The current time in seconds since the epoch; a test sets `times.clock`."""
        return times.clock()
