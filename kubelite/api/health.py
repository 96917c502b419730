"""/livez, /readyz and /healthz: named checks, each served alone too, and a list of them with ?verbose. How they went is told at
/metrics/slis.

Source: KEP-3466; component-base metrics/prometheus/slis, v1.34.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from kubelite.api.metrics import Family
from kubelite.api.requests import Query, Reply

#: What is wrong, or None.
Check = Callable[[], str | None]

_TEXT = b"text/plain; charset=utf-8"
_NOSNIFF = b"X-Content-Type-Options: nosniff\r\n"


class Health:
    def __init__(self) -> None:
        self._checks: dict[str, Check] = {"ping": lambda: None}
        self._ready_only: set[str] = set()
        #: (name, endpoint) -> whether it was fine when it was asked last; how often it was and was not.
        self._latest: dict[tuple[str, str], bool] = {}
        self._outcomes: Counter[tuple[str, str, str]] = Counter()

    def add(self, name: str, check: Check, *, ready_only: bool = False) -> None:
        """`ready_only`: a server that fails it lives but should get no traffic yet."""
        self._checks[name] = check
        if ready_only:
            self._ready_only.add(name)

    def names(self, endpoint: str) -> list[str]:
        return [n for n in self._checks if endpoint != "livez" or n not in self._ready_only]

    def run(self, name: str) -> str | None:
        """What a check finds wrong; a check that does not exist here finds nothing."""
        check = self._checks.get(name)
        return check() if check is not None else None

    def problem(self) -> str | None:
        """The first failing check of readiness, with its reason."""
        for name, check in self._checks.items():
            if reason := check():
                return f"{name}: {reason}"
        return None

    def reply(self, path: str, query: Query) -> Reply | None:
        """None where no such check is."""
        endpoint, _, only = path.strip("/").partition("/")
        names = self.names(endpoint)
        if only:
            if only not in names:
                return None
            reason = self._ask(only, endpoint)
            if reason is None:
                return Reply(200, b"ok", _TEXT, _NOSNIFF)
            return Reply(500, f"internal server error: {reason}\n".encode(), _TEXT, _NOSNIFF)
        excluded = set(query.get("exclude", ()))
        lines, failed = [], False
        for name in names:
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
            elif self._ask(name, endpoint) is None:
                lines.append(f"[+]{name} ok")
            else:
                # Why is for the log and for the check's own path: anybody may read this one.
                lines.append(f"[-]{name} failed: reason withheld")
                failed = True
        if failed:
            lines.append(f"{endpoint} check failed\n")
            return Reply(500, "\n".join(lines).encode(), _TEXT, _NOSNIFF)
        if "verbose" not in query:
            return Reply(200, b"ok", _TEXT, _NOSNIFF)
        lines.append(f"{endpoint} check passed\n")
        return Reply(200, "\n".join(lines).encode(), _TEXT, _NOSNIFF)

    def _ask(self, name: str, endpoint: str) -> str | None:
        reason = self._checks[name]()
        self._latest[name, endpoint] = reason is None
        self._outcomes[name, endpoint, "success" if reason is None else "error"] += 1
        return reason

    def families(self) -> Iterator[Family]:
        """How the checks go, by endpoint: asked now, and as they went before."""
        for endpoint in ("healthz", "livez", "readyz"):
            for name in self.names(endpoint):
                self._ask(name, endpoint)
        latest = [({"name": name, "type": endpoint}, float(fine)) for (name, endpoint), fine in self._latest.items()]
        yield Family("kubernetes_healthcheck", "gauge", "Whether a check was fine when it was asked last.", latest)
        outcomes = [({"name": name, "type": end, "status": how}, count) for (name, end, how), count in self._outcomes.items()]
        yield Family("kubernetes_healthchecks", "counter", "How often a check was asked, by outcome.", outcomes)
