"""JSON patch (RFC 6902) and merge patch (RFC 7386) of JSON values.

Neither the object nor the patch is ever changed: only the containers on the way to a change are copied, each once. The result
may share everything else with both.

Source: the error texts and the leniencies (replace of a key that is not there, negative indices) are those of
gopkg.in/evanphx/json-patch.v4 v4.12, which the API server uses; the limits those of its pkg/endpoints/handlers/patch.go.
"""

import re
from collections.abc import Sequence
from typing import Any

import orjson

from kubelite.meta import copies
from kubelite.meta.errors import ApiError, BadRequest, Cause, Invalid, RequestEntityTooLarge
from kubelite.meta.types import Obj

MAX_OPERATIONS = 10_000
#: All that `copy` operations of one patch may copy together, as JSON: otherwise few of them double a document many times.
MAX_COPIED_BYTES = 3 * 1024 * 1024

_MISSING: Any = object()
_INDEX = re.compile(r"[+-]?\d+")


def json_patch(obj: Any, operations: Sequence[Any]) -> Any:
    """The object after all operations, in their order.

    Raises:
        BadRequest: the patch is not a list of operations.
        RequestEntityTooLarge: it has too many, or copies too much.
        Invalid: an operation does not apply.
    """
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise BadRequest("error decoding patch: a JSON patch must be an array of operations")
    if len(operations) > MAX_OPERATIONS:
        raise RequestEntityTooLarge(
            f"Request entity is too large: The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, "
            f"got {len(operations)}"
        )
    document = _Document(obj)
    for operation in operations:
        document.apply(operation)
    return document.root


def merge_patch(obj: Any, patch: Any) -> Any:
    """The object with the patch merged in: objects by key, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(obj) if isinstance(obj, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = merge_patch(merged.get(key), value)
        else:
            # as upstream: only where there was an object before do the nulls in a list's objects stay
            merged[key] = value if isinstance(merged.get(key), dict) else _without_nulls(value)
    return merged


def _without_nulls(value: Any) -> Any:
    """A list of a merge patch as it is taken: nulls go from its objects and stay as its items."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def not_applicable(detail: str) -> ApiError:
    """The error of a patch that could be read and can't be applied."""
    return Invalid(
        "the server rejected our request due to an error in our request", causes=[Cause("", "UnexpectedServerResponse", detail)]
    )


class _Document:
    """A document that is being patched. `owned` holds the containers that this patch made, by id, and keeps them alive."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.owned: dict[int, Any] = {}
        self.copied_bytes = 0

    def apply(self, operation: Obj) -> None:
        match operation.get("op"):
            case "add":
                path = _text(operation, "path", "add operation failed to decode path")
                self.add(path, operation.get("value"), f"add operation does not apply: doc is missing path: {_quoted(path)}")
            case "remove":
                path = _text(operation, "path", "remove operation failed to decode path")
                self.remove(path, f"remove operation does not apply: doc is missing path: {_quoted(path)}", path)
            case "replace":
                self.replace(operation)
            case "move":
                origin = _text(operation, "from", "move operation failed to decode from")
                missing = f"move operation does not apply: doc is missing from path: {origin}"
                value = self.get(origin, missing, "move", f"error in move for path: '{_last(origin)}'")
                self.remove(origin, missing, _last(origin), "move")
                path = _text(operation, "path", "move operation failed to decode path")
                self.add(path, value, f"move operation does not apply: doc is missing destination path: {path}", "move")
            case "copy":
                self.copy(operation)
            case "test":
                self.test(operation)
            case _:
                name = operation.get("op")
                raise not_applicable(f"Unexpected kind: {name if isinstance(name, str) else 'unknown'}")

    def replace(self, operation: Obj) -> None:
        path = _text(operation, "path", "replace operation failed to decode path")
        value = operation.get("value")
        if path == "":
            if not isinstance(value, dict | list):
                raise not_applicable("replace operation value must be object or array")
            self.root = value
            return
        parent, key = self.find(path, f"replace operation does not apply: doc is missing path: {path}")
        if isinstance(parent, dict):
            parent[key] = value
            return
        try:
            parent[_index(key, len(parent))] = value
        except ValueError:
            raise not_applicable(f"replace operation does not apply: doc is missing key: {path}: missing value") from None

    def copy(self, operation: Obj) -> None:
        origin = _text(operation, "from", "copy operation failed to decode from")
        missing = f"copy operation does not apply: doc is missing from path: {origin}"
        value = self.get(origin, missing, "copy", f"error in copy for from: '{origin}'")
        path = _text(operation, "path", "copy operation failed to decode path")
        if isinstance(value, dict | list):
            self.copied_bytes += len(orjson.dumps(value))
            if self.copied_bytes > MAX_COPIED_BYTES:
                raise RequestEntityTooLarge(
                    f"Unable to complete the copy, the accumulated size increase of copy is {self.copied_bytes}, "
                    f"exceeding the limit {MAX_COPIED_BYTES}"
                )
            value = copies.deep_copy(value)
        self.add(path, value, f"copy operation does not apply: doc is missing destination path: {path}", "copy")

    def test(self, operation: Obj) -> None:
        path = _text(operation, "path", "test operation failed to decode path")
        failed = f"testing value {path} failed: test failed"
        wanted = operation.get("value")
        if path == "":
            if not _equal(self.root, wanted):
                raise not_applicable(failed)
            return
        missing = f"test operation does not apply: is missing path: {path}"
        if not _equal(self.get(path, missing, "test", f"error in test for path: '{path}'"), wanted):
            raise not_applicable(failed)

    def find(self, path: str, missing: str) -> tuple[Any, str]:
        """The container that holds the path's last part, made writable, and that part.

        Raises:
            Invalid: with the text `missing`, when it is not there.
        """
        parts = _parts(path)
        if not parts:
            raise not_applicable(f"{missing}: missing value")
        parent = self.root = self.writable(self.root)
        for part in parts[:-1]:
            child = _child(parent, part)
            if not isinstance(child, dict | list):
                raise not_applicable(f"{missing}: missing value")
            child = self.writable(child)
            parent[part if isinstance(parent, dict) else _index(part, len(parent))] = child
            parent = child
        return parent, parts[-1]

    def writable(self, container: Any) -> Any:
        if id(container) in self.owned:
            return container
        container = container.copy() if isinstance(container, dict | list) else container
        self.owned[id(container)] = container
        return container

    def get(self, path: str, missing: str, verb: str, fault: str) -> Any:
        """The value at the path; None where its object has no such key."""
        parts = _parts(path)
        if not parts:
            raise not_applicable(f"{missing}: missing value")
        value = self.root
        for position, part in enumerate(parts):
            if not isinstance(value, dict | list):
                raise not_applicable(f"{missing}: missing value")
            found = _child(value, part)
            if found is _MISSING:
                if position == len(parts) - 1 and isinstance(value, dict):
                    return None
                if position == len(parts) - 1:
                    raise not_applicable(f"{fault}: {_index_fault(part)}")
                raise not_applicable(f"{missing}: missing value")
            value = found
        return value

    def add(self, path: str, value: Any, missing: str, verb: str = "add") -> None:
        parent, key = self.find(path, missing)
        if isinstance(parent, dict):
            parent[key] = value
            return
        if key == "-":
            parent.append(value)
            return
        try:
            parent.insert(_index(key, len(parent) + 1), value)
        except ValueError:
            prefix = "" if _INDEX.fullmatch(key) else f"value was not a proper array index: '{key}': "
            raise not_applicable(f"error in {verb} for path: '{path}': {prefix}{_index_fault(key)}") from None

    def remove(self, path: str, missing: str, shown: str, verb: str = "remove") -> None:
        parent, key = self.find(path, missing)
        if isinstance(parent, dict):
            if key not in parent:
                raise not_applicable(
                    f"error in {verb} for path: '{shown}': Unable to remove nonexistent key: {key}: missing value"
                )
            del parent[key]
            return
        try:
            del parent[_index(key, len(parent))]
        except ValueError:
            raise not_applicable(f"error in {verb} for path: '{shown}': {_index_fault(key)}") from None


def _text(operation: Obj, name: str, fault: str) -> str:
    value = operation.get(name)
    if not isinstance(value, str):
        raise not_applicable(f"{fault}: missing value")
    return value


def _quoted(path: str) -> str:
    return f'"{path}"'


def _last(path: str) -> str:
    return _parts(path)[-1] if _parts(path) else ""


def _parts(path: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _child(container: Any, part: str) -> Any:
    if isinstance(container, dict):
        return container.get(part, _MISSING)
    try:
        return container[_index(part, len(container))]
    except ValueError:
        return _MISSING


def _index(part: str, length: int) -> int:
    """The position in an array that a path's part names; negative ones count from the end.

    Raises:
        ValueError: there is no such position.
    """
    if not _INDEX.fullmatch(part) or len(part) > 10:
        raise ValueError(part)
    position = int(part)
    if not -length <= position < length:
        raise ValueError(part)
    return position if position >= 0 else position + length


def _index_fault(part: str) -> str:
    if _INDEX.fullmatch(part):
        return f"Unable to access invalid index: {int(part) if len(part) < 20 else part}: invalid index referenced"
    return f'strconv.Atoi: parsing "{part}": invalid syntax'


def _equal(left: Any, right: Any) -> bool:
    """Equality of JSON values, where true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict):
        return isinstance(right, dict) and left.keys() == right.keys() and all(_equal(v, right[k]) for k, v in left.items())
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(_equal, left, right))
    return bool(left == right)
