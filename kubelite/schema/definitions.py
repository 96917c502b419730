"""The published definitions of the built-in types, as kubernetes-validate ships them.

The file is read on first use. Its definitions stay undecoded slices of one buffer until someone asks for one: most are never
asked for, and their descriptions, most of the text, are only decoded for OpenAPI.
"""

from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import orjson

_PATH = "kubernetes-json-schema/v1.34.0-local/_definitions.json"


def names() -> Iterable[str]:
    """The names of all definitions."""
    return _raw().keys()


def has(name: str) -> bool:
    return name in _raw()


def read(name: str) -> dict[str, Any]:
    """A whole definition, descriptions included; a new one at each call.

    Raises:
        KeyError: there is no such definition.
    """
    found: dict[str, Any] = orjson.loads(memoryview(_raw()[name]))
    return found


class Fragment(msgspec.Struct, gc=False):
    """What the structure of values needs of a definition or a property."""

    ref: str = msgspec.field(name="$ref", default="")
    type: Any = None
    format: str = ""
    properties: dict[str, "Fragment"] = {}
    items: "Fragment | None" = None
    additional_properties: "Fragment | bool | None" = msgspec.field(name="additionalProperties", default=None)
    required: list[str] = []
    enum: list[Any] = []
    one_of: list[Any] = msgspec.field(name="oneOf", default=[])
    list_type: str = msgspec.field(name="x-kubernetes-list-type", default="")
    list_map_keys: list[str] = msgspec.field(name="x-kubernetes-list-map-keys", default=[])
    map_type: str = msgspec.field(name="x-kubernetes-map-type", default="")
    merge_key: str = msgspec.field(name="x-kubernetes-patch-merge-key", default="")
    patch_strategy: str = msgspec.field(name="x-kubernetes-patch-strategy", default="")


class _File(msgspec.Struct, gc=False):
    definitions: dict[str, msgspec.Raw] = msgspec.field(name="$defs")


def fragment(name: str) -> Fragment:
    """The part of a definition that says what values look like.

    Raises:
        KeyError: there is no such definition.
    """
    return _decoder().decode(_raw()[name])


@lru_cache(maxsize=1)
def _decoder() -> msgspec.json.Decoder[Fragment]:
    return msgspec.json.Decoder(Fragment)


@lru_cache(maxsize=1)
def _raw() -> dict[str, msgspec.Raw]:
    # found, not imported: importing the package would load what it needs for its own work
    spec = find_spec("kubernetes_validate")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("kubernetes-validate is not installed; install kubelite with its dependencies")
    data = (Path(spec.submodule_search_locations[0]) / _PATH).read_bytes()
    return msgspec.json.decode(data, type=_File).definitions
