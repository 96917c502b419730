"""Custom objects between versions by webhook: who writes a definition may name a server that converts.

Reading an entry is synchronous everywhere else, so what a read will need is converted before it (`prepare`) and stands beside
the entry's view, as bytes, for as long as the entry and the definition are what they are. Kinds without a webhook never come
here: their versions differ in the apiVersion only.

Source: apiextensions-apiserver pkg/apiserver/conversion/webhook_converter.go, v0.34.
"""

import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.schema.kinds import Kind
from kubelite.store.contract import Entry

if TYPE_CHECKING:
    from kubelite.registry.entries import Entries

#: Sends a ConversionReview to what a clientConfig names and returns the parsed answer. Raises ValueError, which says why.
Ask: TypeAlias = Callable[[Obj, Obj], Awaitable[Any]]

#: One call converts so many objects at most, and objects of so many bytes: answers are bounded too.
BATCH = 500
BATCH_BYTES = 1024 * 1024

_REVIEW_VERSIONS = ("v1", "v1beta1")


class Conversions:
    """One for each registry. `ask` is set by whoever composes the server; without it, webhook kinds can't be read."""

    def __init__(self, entries: "Entries") -> None:
        self.ask: Ask | None = None
        self._entries = entries
        #: What the definitions of rows say whose objects a webhook converts.
        self._webhooks: dict[Kind, Obj] = {}

    def set(self, row: Kind, conversion: Obj | None) -> None:
        """Takes what a definition says of conversion, for one of its rows; None: the row is gone."""
        if conversion is not None and conversion.get("strategy") == "Webhook":
            self._webhooks[row] = conversion.get("webhook") or {}
        else:
            self._webhooks.pop(row, None)

    def needs(self, kind: Kind) -> bool:
        """Whether objects of this kind have to be prepared."""
        return kind.custom and kind in self._webhooks

    async def prepare(self, kind: Kind, entries: Iterable[Entry | None]) -> None:
        """Converts what of these is stored in another version.

        Raises:
            ApiError: the webhook can't be asked, or refuses.
        """
        if not self.needs(kind):
            return
        wanted = []
        for entry in entries:
            if entry is not None and self._found(entry, kind) is None:
                obj = self._entries.completed(self._entries.parsed(entry), kind)
                if obj.get("apiVersion") != kind.api_version:
                    wanted.append((entry, obj))
        for batch in _batches(wanted):
            objects = [obj for _, obj in batch]
            for (entry, _), obj in zip(batch, await self.convert(kind, objects, kind.api_version), strict=True):
                self._entries.keep_shown(entry, kind, obj)

    def prepared(self, entry: Entry, kind: Kind) -> Entry | None:
        """The entry in this kind's version; None where no webhook is needed for that."""
        if not self.needs(kind):
            return None
        found = self._found(entry, kind)
        if found is None and self._entries.parsed(entry).get("apiVersion") != kind.api_version:
            raise errors.InternalError.of(f"{entry.key} was not converted to {kind.api_version} before it was read")
        return found

    def _found(self, entry: Entry, kind: Kind) -> Entry | None:
        return (self._entries.view(entry).shown or {}).get(kind)

    async def to_store(self, obj: Obj, kind: Kind) -> Obj:
        """An object of a request in the version that is stored."""
        stored = self._entries.storage_kind(kind)
        if self.needs(kind) and stored is not kind:
            (obj,) = await self.convert(kind, [obj], stored.api_version)
        return self._entries.to_store(obj, kind)

    async def convert(self, kind: Kind, objects: list[Obj], api_version: str) -> list[Obj]:
        """These objects, all of one version, in another. Raises ApiError."""
        what = f"conversion webhook for {objects[0].get('apiVersion')}, Kind={kind.kind} failed"
        if self.ask is None:
            raise errors.ApiError(f"{what}: this server calls no webhooks", reason="", code=500)
        uid = str(uuid.uuid4())
        webhook = self._webhooks[kind]
        version = next((v for v in webhook.get("conversionReviewVersions") or () if v in _REVIEW_VERSIONS), "v1")
        review = {
            "kind": "ConversionReview",
            "apiVersion": f"apiextensions.k8s.io/{version}",
            "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": objects},
        }
        try:
            answer = await self.ask(webhook.get("clientConfig") or {}, review)
            return _checked(answer, review, objects)
        except ValueError as e:
            raise errors.ApiError(f"{what}: {e}", reason="", code=500) from e


def _batches(wanted: list[tuple[Entry, Obj]]) -> Iterator[list[tuple[Entry, Obj]]]:
    batch: list[tuple[Entry, Obj]] = []
    size = 0
    for pair in wanted:
        if batch and (len(batch) == BATCH or size + len(pair[0].value) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(pair)
        size += len(pair[0].value)
    if batch:
        yield batch


def _checked(answer: Any, review: Obj, objects: list[Obj]) -> list[Obj]:
    """The converted objects, with the metadata that a webhook may not change. Raises ValueError."""
    response = answer.get("response") if isinstance(answer, dict) else None
    if not isinstance(response, dict):
        raise ValueError("no response provided")
    if review["apiVersion"].endswith("/v1"):  # of v1beta1 nothing is asked that its first webhooks didn't do
        for field in ("apiVersion", "kind"):
            if answer.get(field) != review[field]:
                raise ValueError(f"expected webhook response of {review[field]}, got {answer.get(field)}")
        if response.get("uid") != review["request"]["uid"]:
            raise ValueError(f'expected response.uid="{review["request"]["uid"]}", got "{response.get("uid", "")}"')
    result = response.get("result") or {}
    if result.get("status") != "Success":
        raise ValueError(str(result.get("message") or f"response.result.status was '{result.get('status', '')}', not 'Success'"))
    converted = response.get("convertedObjects") or []
    if len(converted) != len(objects):
        raise ValueError(f"webhook returned {len(converted)} objects, expected {len(objects)}")
    wanted = review["request"]["desiredAPIVersion"]
    return [_kept_to(new, old, wanted, i) for i, (new, old) in enumerate(zip(converted, objects, strict=True))]


def _kept_to(new: Any, old: Obj, api_version: str, index: int) -> Obj:
    where = f"webhook returned invalid converted object at index {index}"
    if not isinstance(new, dict) or new.get("apiVersion") != api_version or new.get("kind") != old.get("kind"):
        raise ValueError(f"{where}: it is not a {old.get('kind')} of {api_version}")
    meta, own = new.get("metadata"), old["metadata"]
    if not isinstance(meta, dict):
        raise ValueError(f"{where}: it has no metadata")
    for field in ("name", "namespace", "uid"):
        if (meta.get(field) or "") != (own.get(field) or ""):
            raise ValueError(f"{where}: must have the same {field}: {own.get(field)} != {meta.get(field)}")
    metadata = {key: value for key, value in own.items() if key not in ("labels", "annotations")}
    for field in ("labels", "annotations"):
        texts = meta.get(field)
        if not texts:
            continue
        if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
            raise ValueError(f"{where}: invalid metadata.{field}")
        metadata[field] = texts
    return {**new, "metadata": metadata}
