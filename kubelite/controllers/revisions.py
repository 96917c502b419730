"""ControllerRevisions: the templates that a DaemonSet or StatefulSet had, for rollbacks and to tell old pods from new.

Source: kubernetes pkg/controller/history and pkg/controller/daemon/update.go, v1.34.
"""

import contextlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from kubelite.client.contract import Client
from kubelite.controllers import owners
from kubelite.meta import hashing
from kubelite.meta.errors import AlreadyExists, NotFound
from kubelite.meta.types import Obj

RESOURCE = "controllerrevisions.apps"


class Collision(Exception):
    """Another template has this hash: the owner's collision count must be raised."""


def number(revision: Obj) -> int:
    found: int = revision.get("revision", 0)
    return found


def oldest_first(revisions: Iterable[Obj]) -> list[Obj]:
    return sorted(revisions, key=lambda r: (number(r), r["metadata"].get("creationTimestamp", ""), r["metadata"]["name"]))


def data_of(owner: Obj) -> Obj:
    """The strategic merge patch that brings the owner back to its present template."""
    return {"spec": {"template": {**owner["spec"]["template"], "$patch": "replace"}}}


def _sorted(value: Any) -> Any:
    """A copy with its keys in order: clients written in Go compare a revision's data with a template byte by byte."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


class Revisions:
    """The revisions of owners of one kind. `hash_label` is where a revision and its pods carry the template's hash."""

    def __init__(self, client: Client, api_version: str, kind: str, hash_label: str) -> None:
        self._client = client
        self._api_version = api_version
        self._kind = kind
        self._hash_label = hash_label

    async def current(self, owner: Obj, known: Sequence[Obj], collisions: int | None) -> tuple[Obj, list[Obj]]:
        """The revision of the owner's present template, as the newest, and the others, the oldest first.

        Raises:
            Collision: see there.
        """
        data = data_of(owner)
        same = oldest_first(r for r in known if r.get("data") == data)
        others = oldest_first(r for r in known if r.get("data") != data)
        wanted = max(map(number, others), default=0) + 1
        if not same:
            return await self._create(owner, data, wanted, collisions), others
        newest = same[-1]
        if number(newest) < wanted:
            newest = await self._client.update(RESOURCE, {**newest, "revision": wanted})
        return newest, oldest_first([*others, *same[:-1]])

    async def _create(self, owner: Obj, data: Obj, wanted: int, collisions: int | None) -> Obj:
        meta, template = owner["metadata"], owner["spec"]["template"]
        hash_ = hashing.of_value(template, collisions)
        labels = {**((template.get("metadata") or {}).get("labels") or {}), self._hash_label: hash_}
        name = f"{meta['name'][:223]}-{hash_}"
        revision: Obj = {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": name,
                "namespace": meta["namespace"],
                "labels": labels,
                "annotations": dict(meta.get("annotations") or {}),
                "ownerReferences": [owners.reference_to(owner, self._api_version, self._kind)],
            },
            "data": _sorted(data),
            "revision": wanted,
        }
        try:
            return await self._client.create(RESOURCE, revision)
        except AlreadyExists as e:
            # One of an earlier owner of this name is as good, whoever it belongs to now: it says the same.
            found = await self._client.get(RESOURCE, name, meta["namespace"])
            if found.get("data") == data:
                return found
            raise Collision(name) from e

    async def merge(self, owner: Obj, known: Sequence[Obj], owned: Sequence[Obj]) -> list[Obj]:
        """The revisions without those that say the same as a newer one of the owner's present template, which are deleted; its
        pods `owned` become pods of the one that stays, so that none is made anew for nothing.
        """
        data = data_of(owner)
        same = oldest_first(r for r in known if r.get("data") == data)
        if len(same) < 2:
            return list(known)
        kept = self.hash_of(same[-1])
        hashes = {self.hash_of(revision) for revision in same[:-1]}
        for pod in owned:
            meta = pod["metadata"]
            if (meta.get("labels") or {}).get(self._hash_label) in hashes - {kept}:
                change = {"metadata": {"labels": {self._hash_label: kept}}}
                await self._client.patch("pods", meta["name"], meta["namespace"], change)
        for revision in same[:-1]:
            await self._delete(revision)
        return [r for r in known if r not in same[:-1]]

    def hash_of(self, revision: Obj) -> str:
        """The hash that the revision's pods carry."""
        meta = revision["metadata"]
        return str((meta.get("labels") or {}).get(self._hash_label) or meta["name"])

    async def trim(self, others: Sequence[Obj], kept: int, used: Collection[str]) -> None:
        """Deletes the oldest of the other revisions beyond those kept; none whose name is in `used`."""
        surplus = len(others) - kept
        for revision in others:
            if surplus <= 0:
                return
            meta = revision["metadata"]
            if meta["name"] in used:
                continue
            surplus -= 1
            await self._delete(revision)

    async def _delete(self, revision: Obj) -> None:
        meta = revision["metadata"]
        with contextlib.suppress(NotFound):
            await self._client.delete(RESOURCE, meta["name"], meta["namespace"], precondition_uid=meta["uid"])
