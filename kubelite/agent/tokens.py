"""Service account tokens for pods' volumes: asked for over the link, kept in memory, renewed before they end.

Source: pkg/kubelet/token (renewal at 80 % of the lifetime or after a day, with jitter), v1.34.
"""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kubelite.agent.faults import ConfigFault
from kubelite.meta import times
from kubelite.meta.types import Obj

#: (namespace, service account, TokenRequest) -> TokenRequest with its status.
Request = Callable[[str, str, Obj], Awaitable[Obj]]

LONGEST_S = 24 * 3600.0
DEFAULT_LIFETIME_S = 3600


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    renew_at_s: float
    expires_at_s: float


class Tokens:
    """The tokens of the node's pods."""

    def __init__(self, request: Request, now: Callable[[], float] = time.time) -> None:
        self._request = request
        self._now = now
        self._tokens: dict[tuple[str, str, int, str], _Token] = {}

    async def get(self, pod: Obj, audience: str, lifetime_s: int) -> str:
        """A token of the pod's service account bound to the pod.

        Raises:
            ConfigFault: the server refused and there is no token that is still good.
        """
        meta = pod["metadata"]
        key = (meta["uid"], audience, lifetime_s, pod["spec"].get("serviceAccountName") or "default")
        known = self._tokens.get(key)
        if known is not None and self._now() < known.renew_at_s:
            return known.text
        spec: Obj = {
            "audiences": [audience] if audience else [],
            "expirationSeconds": lifetime_s,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]},
        }
        request: Obj = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": spec}
        try:
            status = (await self._request(meta["namespace"], key[3], request))["status"]
        except Exception as e:
            if known is not None and self._now() < known.expires_at_s:
                return known.text
            raise ConfigFault(f"failed to fetch token: {e}") from e
        expires_at_s = times.parse_seconds(status["expirationTimestamp"])
        remaining_s = expires_at_s - self._now()
        renew_at_s = self._now() + min(remaining_s * 0.8, LONGEST_S) - random.uniform(0, min(10.0, remaining_s / 10))
        self._tokens[key] = _Token(status["token"], renew_at_s, expires_at_s)
        return str(status["token"])

    def forget(self, pod_uid: str) -> None:
        for key in [k for k in self._tokens if k[0] == pod_uid]:
            del self._tokens[key]

    def renew_at_s(self, pod_uid: str) -> float | None:
        """When the first of the pod's tokens is due."""
        return min((t.renew_at_s for key, t in self._tokens.items() if key[0] == pod_uid), default=None)
