"""Parses the commands that start a server or an agent without typer, which would cost a tenth of the start and of the memory.

Only what is plain is taken: known options with their values. Anything else (help, a mistake) goes to typer, which explains it.
"""

import sys
from typing import Any

_LOGS = ("config", "log-format", "log-level")
_SERVER = ("https-port", "grpc-port", "bind", "advertise-address", "cluster-cidr", "service-cidr")
_NODE = ("node-name", "runtime", "runtime-endpoint", "registries", "images", "eviction-hard")
#: The options of each command that runs for long.
OPTIONS: dict[str, tuple[str, ...]] = {
    "server": ("data-dir", *_SERVER, "disable", *_LOGS),
    "agent": ("server", "token", "ca-hash", "data-dir", *_NODE, "disable", *_LOGS),
    "up": ("data-dir", *_SERVER, *_NODE, "nodes", "disable", *_LOGS),
}
_NUMBERS = ("https-port", "grpc-port", "nodes")
_LISTS = ("disable",)
#: Options whose setting has another name.
_FIELDS = {"registries": "registries_dir"}


def parse(words: list[str]) -> tuple[str, dict[str, Any]] | None:
    """The command and its options by the names of settings; None where typer must look at it."""
    if not words or words[0] not in OPTIONS:
        return None
    command, rest = words[0], iter(words[1:])
    given: dict[str, Any] = {}
    for word in rest:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in OPTIONS[command]:
            return None
        if not equals:
            value = next(rest, "")
        if not value or (value.startswith("--") and not equals) or (name in _NUMBERS and not value.isdigit()):
            return None
        field = _FIELDS.get(name, name.replace("-", "_"))
        if name in _LISTS:
            given.setdefault(field, []).append(value)
        else:
            given[field] = int(value) if name in _NUMBERS else value
    return command, given


def print_version() -> None:
    from kubelite import KUBERNETES_VERSION, __version__

    sys.stdout.write(f"kubelite {__version__} (Kubernetes {KUBERNETES_VERSION})\n")
