"""OpenAPI v2 and v3: what kubectl explain and client-side validation read.

Schemas are the published definitions (with descriptions, which nothing else needs) and the schemas of custom kinds; paths
come from the table of kinds. Nothing is built at the start: the index needs only hashes of what a document is made of, and
a document is built when it is asked for. The few built last are kept.

Source: kube-openapi pkg/handler3, v0.34; the form of names and extensions: api/openapi-spec, v1.34.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import orjson

from kubelite import KUBERNETES_VERSION, __version__
from kubelite.api import openapipaths, openapischemas
from kubelite.meta.types import Obj
from kubelite.schema.kinds import Kind, Kinds

KEPT_DOCUMENTS = 4
#: To be raised when documents are made otherwise than before: clients keep what they have under a hash for good.
_FORM = 2

Document = tuple[bytes, str]


class OpenApi:
    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._generation = -1
        self._index: Document | None = None
        self._hashes: dict[str, str] = {}
        self._documents: OrderedDict[str, Document] = OrderedDict()

    def v3_index(self) -> Document:
        """Where the document of each group and version is, under an address that changes with it."""
        self._refresh()
        if self._index is None:
            paths = {path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._hash(path)}"} for path in sorted(self._paths())}
            body = orjson.dumps({"paths": paths})
            self._index = (body, _digest(body))
        return self._index

    def v3(self, path: str) -> Document | None:
        """The document of `api/v1` or `apis/GROUP/VERSION`, with its hash."""
        self._refresh()
        rows = self._paths().get(path)
        if rows is None:
            return None
        return self._kept(f"v3/{path}", lambda: orjson.dumps(self._build_v3(path, rows)), self._hash(path))

    def v2(self, *, message: bool = False) -> Document:
        """Everything in one Swagger document, in JSON or as a protobuf message."""
        self._refresh()
        tag = _digest("".join(self._hash(path) for path in sorted(self._paths())).encode())
        if message:
            from kubelite.api import openapimessages

            return self._kept("v2 message", lambda: openapimessages.encode(self._build_v2()), tag)
        return self._kept("v2", lambda: orjson.dumps(self._build_v2()), tag)

    def _refresh(self) -> None:
        if self._generation != self._kinds.generation:
            self._generation = self._kinds.generation
            self._index = None
            self._hashes.clear()
            self._documents.clear()

    def _paths(self) -> dict[str, list[Kind]]:
        found: dict[str, list[Kind]] = {}
        for kind in self._kinds:
            path = f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"
            found.setdefault(path, []).append(kind)
        return found

    def _hash(self, path: str) -> str:
        found = self._hashes.get(path)
        if found is None:
            custom = [
                (k.kind, k.plural, k.namespaced, sorted(k.subresources), k.crd_version) for k in self._paths()[path] if k.custom
            ]
            made_of = [path, _FORM, __version__, KUBERNETES_VERSION, custom]
            source = orjson.dumps(made_of, default=str, option=orjson.OPT_SORT_KEYS)
            found = self._hashes[path] = _digest(source)
        return found

    def _kept(self, key: str, build: Callable[[], bytes], tag: str) -> Document:
        found = self._documents.get(key)
        if found is None:
            found = self._documents[key] = (build(), tag)
            if len(self._documents) > KEPT_DOCUMENTS:
                self._documents.popitem(last=False)
        else:
            self._documents.move_to_end(key)
        return found

    def _build_v3(self, path: str, kinds: list[Kind]) -> Obj:
        schemas = openapischemas.Schemas("#/components/schemas/")
        paths: dict[str, Any] = {}
        for kind in sorted(kinds, key=lambda k: k.plural):
            schemas.add_kind(kind)
            paths |= openapipaths.paths_v3(kind, schemas)
        return {
            "openapi": "3.0.0",
            "info": _info(),
            "paths": dict(sorted(paths.items())),
            "components": {
                "schemas": schemas.collected(),
                "securitySchemes": {"BearerToken": _security()},
            },
        }

    def _build_v2(self) -> Obj:
        schemas = openapischemas.Schemas("#/definitions/", v2=True)
        paths: dict[str, Any] = {}
        for kind in self._kinds:
            schemas.add_kind(kind)
            paths |= openapipaths.paths_v2(kind, schemas)
        return {
            "swagger": "2.0",
            "info": _info(),
            "paths": dict(sorted(paths.items())),
            "definitions": schemas.collected(),
            "securityDefinitions": {"BearerToken": _security()},
            "security": [{"BearerToken": []}],
        }


def _info() -> Obj:
    return {"title": "Kubernetes", "version": KUBERNETES_VERSION}


def _security() -> Obj:
    return {"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"}


def _digest(data: bytes) -> str:
    return hashlib.sha512(data).hexdigest().upper()
