"""Custom objects between versions by webhook: who writes a definition may name a server that converts.

Reading an entry is synchronous everywhere else, so what a read will need is converted before it (`prepare`) and found again
by the entry's key and revision. Kinds without a webhook never come here: theirs differ in the apiVersion only.

Source: apiextensions-apiserver pkg/apiserver/conversion/webhook_converter.go, v0.34.
"""

import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.schema.kinds import Kind
from kubelite.store.contract import Entry

if TYPE_CHECKING:
    from kubelite.registry.entries import Entries

#: Sends a ConversionReview to what a clientConfig names and returns the parsed answer. Raises ApiError.
Ask: TypeAlias = Callable[[Obj, Obj], Awaitable[Any]]

_KEPT = 4096


class Conversions:
    """One for each registry. `ask` is set by whoever composes the server; without it, webhook kinds can't be read."""

    def __init__(self, entries: "Entries") -> None:
        self.ask: Ask | None = None
        self._entries = entries
        #: The clientConfig of each row whose definition converts by webhook.
        self._webhooks: dict[Kind, Obj] = {}
        self._kept: OrderedDict[tuple[str, int, str], Obj] = OrderedDict()

    def set(self, row: Kind, conversion: Obj | None) -> None:
        """Takes what a definition says of conversion, for one of its rows; None: the row is gone."""
        if conversion is not None and conversion.get("strategy") == "Webhook":
            self._webhooks[row] = (conversion.get("webhook") or {}).get("clientConfig") or {}
        else:
            self._webhooks.pop(row, None)
        self._kept.clear()

    def needs(self, kind: Kind) -> bool:
        """Whether objects of this kind have to be prepared."""
        return kind.custom and kind in self._webhooks

    async def prepare(self, kind: Kind, entries: Iterable[Entry | None]) -> None:
        """Converts what of these is stored in another version, in one call."""
        if not self.needs(kind):
            return
        wanted: dict[tuple[str, int, str], Obj] = {}
        for entry in entries:
            if entry is None:
                continue
            key = (entry.key, entry.revision, kind.api_version)
            obj = self._entries.parsed(entry)
            if key not in self._kept and obj.get("apiVersion") != kind.api_version:
                wanted[key] = obj
        if wanted:
            for key, obj in zip(wanted, await self._ask(kind, [*wanted.values()], kind.api_version), strict=True):
                self._kept[key] = obj
            while len(self._kept) > max(_KEPT, len(wanted)):
                self._kept.popitem(last=False)

    def prepared(self, entry: Entry, obj: Obj, kind: Kind) -> Obj | None:
        """The entry in this kind's version; None where no webhook is needed for that."""
        if not self.needs(kind) or obj.get("apiVersion") == kind.api_version:
            return None
        found = self._kept.get((entry.key, entry.revision, kind.api_version))
        if found is None:
            raise errors.InternalError.of(f"{entry.key} was not converted to {kind.api_version} before it was read")
        return found

    async def to_storage(self, obj: Obj, kind: Kind, stored: Kind) -> Obj:
        """An object of a request in the version that is stored."""
        if not self.needs(kind) or obj.get("apiVersion") == stored.api_version:
            return self._entries.convert(obj, kind, stored)
        return (await self._ask(kind, [obj], stored.api_version))[0]

    async def _ask(self, kind: Kind, objects: list[Obj], api_version: str) -> list[Obj]:
        what = f"conversion webhook for {objects[0].get('apiVersion')}, Kind={kind.kind} failed"
        if self.ask is None:
            raise errors.ApiError(f"{what}: this server calls no webhooks", reason="", code=500)
        uid = str(uuid.uuid4())
        review = {
            "kind": "ConversionReview",
            "apiVersion": "apiextensions.k8s.io/v1",
            "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": objects},
        }
        try:
            answer = await self.ask(self._webhooks[kind], review)
            return _checked(answer, uid, objects, api_version)
        except ValueError as e:
            raise errors.ApiError(f"{what}: {e}", reason="", code=500) from e


def _checked(answer: Any, uid: str, objects: list[Obj], api_version: str) -> list[Obj]:
    """The converted objects, with the metadata that a webhook may not change. Raises ValueError."""
    response = answer.get("response") if isinstance(answer, dict) else None
    if not isinstance(response, dict) or response.get("uid") != uid:
        raise ValueError("the answer is no response to this request")
    result = response.get("result") or {}
    if result.get("status") != "Success":
        raise ValueError(str(result.get("message") or "the webhook refused without a message"))
    converted = response.get("convertedObjects") or []
    if len(converted) != len(objects):
        raise ValueError(f"webhook returned {len(converted)} objects, expected {len(objects)}")
    return [_kept_to(new, old, api_version, i) for i, (new, old) in enumerate(zip(converted, objects, strict=True))]


def _kept_to(new: Any, old: Obj, api_version: str, index: int) -> Obj:
    if not isinstance(new, dict) or new.get("apiVersion") != api_version or new.get("kind") != old.get("kind"):
        raise ValueError(
            f"webhook returned invalid converted object at index {index}: it is not a {old.get('kind')} of {api_version}"
        )
    meta, own = new.get("metadata") or {}, old["metadata"]
    for field in ("name", "namespace", "uid"):
        if meta.get(field) != own.get(field):
            raise ValueError(f"webhook returned invalid metadata at index {index}: must have the same {field}")
    metadata = {key: value for key, value in own.items() if key not in ("labels", "annotations")}
    metadata |= {key: meta[key] for key in ("labels", "annotations") if meta.get(key)}
    return {**new, "metadata": metadata}
