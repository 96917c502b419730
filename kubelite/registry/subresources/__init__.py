"""Subresources that are more than another way to update the object: Scale bodies, bindings, evictions.

Those that take the parent's kind (status, approval, finalize, resize, ephemeralcontainers) are plain updates whose strategy
sees `request.subresource`. Logs, exec, tokens and proxies are not stored and belong to api/.
"""

from typing import TYPE_CHECKING

import orjson

from kubelite.meta import copies, errors
from kubelite.meta.types import Obj
from kubelite.registry import bodies, updates, writes
from kubelite.registry.contract import Target, View, WriteOptions
from kubelite.registry.subresources import bindings, evictions, scale
from kubelite.registry.updates import Body
from kubelite.schema import builtin
from kubelite.store.contract import Entry

if TYPE_CHECKING:
    from kubelite.registry.registry import Registry


def body_of(registry: "Registry", target: Target) -> Body | None:
    """How the target's subresource shows and takes the object, None where its bodies are the object itself."""
    return scale.ScaleBody(target.kind, registry.kinds) if target.subresource == "scale" else None


def shown(registry: "Registry", target: Target, entry: Entry) -> Entry:
    """What a get of the subresource returns."""
    body = body_of(registry, target)
    if body is None:
        return entry
    return writes.made(entry, body.of(registry.parsed(entry)))


async def create(registry: "Registry", target: Target, obj: Obj, options: WriteOptions) -> Entry:
    """A POST to a subresource: it acts, and its answer is a Status or a body of its own."""
    if target.kind.plural == "bindings" or target.subresource == "binding":
        binding = bodies.received(registry.kinds.preferred("bindings"), obj, options)
        if not target.subresource:
            name = binding["metadata"].get("name", "")
            binding["metadata"].pop("uid", None)  # of a new object the server says what it is
            target = Target(registry.kinds.preferred("pods"), target.namespace, name, "binding")
        return await bindings.bind(registry, target, binding, options)
    if target.subresource == "eviction":
        eviction = bodies.received(builtin.body("policy", "v1", "Eviction"), {**obj, "apiVersion": "policy/v1"}, options)
        return await evictions.evict(registry, target, eviction, options)
    raise errors.MethodNotAllowed(
        "the server does not allow this method on the requested resource", group=target.kind.group, kind=target.kind.plural
    )


async def update(registry: "Registry", target: Target, sent: Obj, options: WriteOptions, body: Body) -> tuple[Entry, bool]:
    """A PUT of a subresource with bodies of its own."""
    received = bodies.received(builtin.body(*body.kind), sent, options)
    writes.match_name(target, received["metadata"])

    def make(old: Obj | None) -> Obj:
        obj = copies.deep_copy(received)
        uid = obj["metadata"].get("uid")
        if old is not None and uid and uid != old["metadata"].get("uid"):
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['metadata'].get('uid')}"
            raise errors.Conflict.of(target.kind.group, target.kind.plural, target.name, why)
        return obj

    return await updates.change(registry, target, options, make, body=body)


def success(code: int = 201) -> Entry:
    """The answer of a subresource that acted."""
    status: Obj = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code}
    return Entry("", orjson.dumps(status), 0, 0, View({}, {}, status))
