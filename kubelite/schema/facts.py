"""Facts of the wire: the fields of every built-in type, with their protobuf numbers and when they are written.

`facts.txt` has a line for each type, made from Kubernetes' published Go modules by scripts/wirefacts (its notation is
explained there). A line is only split when its type is first asked for.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

#: Types whose JSON form is not what their protobuf fields say.
SPECIAL = frozenset(
    (
        "Quantity",
        "Time",
        "MicroTime",
        "Duration",
        "FieldsV1",
        "IntOrString",
        "RawExtension",
        "JSON",
        "JSONSchemaPropsOrBool",
        "JSONSchemaPropsOrArray",
        "JSONSchemaPropsOrStringArray",
    )
)
_TYPE_META = "TypeMeta"
SCALARS = frozenset(("string", "int32", "int64", "bool", "double", "bytes"))
_GO_TYPES = {
    "double": "float64",
    "bytes": "[]uint8",
    "Quantity": "resource.Quantity",
    "Time": "v1.Time",
    "MicroTime": "v1.MicroTime",
    "FieldsV1": "v1.FieldsV1",
    "IntOrString": "intstr.IntOrString",
    "RawExtension": "runtime.RawExtension",
} | {name: f"v1.{name}" for name in ("JSON", "JSONSchemaPropsOrBool", "JSONSchemaPropsOrArray", "JSONSchemaPropsOrStringArray")}


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `type` is a scalar, a special type, or the name of another type's line.

    A pointer's zero differs from its absence; `always` fields are written even when they are zero; an `inline` field's own
    fields stand in the parent's JSON; a `wrapped` list travels in a protobuf message of its own. `printed` is what Go calls its
    type, where that isn't plain from the rest.
    """

    name: str
    number: int
    type: str
    pointer: bool
    always: bool
    is_list: bool
    is_map: bool
    wrapped: bool
    inline: bool
    printed: str

    @property
    def is_message(self) -> bool:
        return self.type not in SCALARS and self.type not in SPECIAL

    @property
    def go_type(self) -> str:
        """What Go calls the field's type, as errors of decoding print it: `v1.SecretType`, `[]string`."""
        container = ("map[string]" if self.is_map else "") + ("[]" if self.is_list else "")
        return self.printed or f"{container}{self._plain_go_type}"

    @property
    def go_item_type(self) -> str:
        """What Go calls the type of a list's items or of a map's values."""
        _, bracket, item = self.go_type.partition("]")
        return item if bracket else self._plain_go_type

    @property
    def _plain_go_type(self) -> str:
        return _GO_TYPES.get(self.type) or ".".join(self.type.rsplit(".", 2)[-2:])


def name_of(definition: str) -> str:
    """The type of a published definition: `core.v1.Pod` for `io.k8s.api.core.v1.Pod`."""
    return ".".join(definition.rsplit(".", 3)[-3:])


def known(name: str) -> bool:
    return name in _lines()


@cache
def fields(name: str) -> tuple[Field, ...]:
    """The fields of a type.

    Raises:
        KeyError: there is no such type.
    """
    return tuple(_field(text) for text in _lines()[name].split() if text != _TYPE_META)


def has_type_meta(name: str) -> bool:
    """Whether values of a type have an apiVersion and a kind."""
    return f" {_lines()[name]} ".startswith(f" {_TYPE_META} ")


@cache
def json_fields(name: str) -> dict[str, Field]:
    """The fields that a type has in JSON, those of inline fields among them, by name."""
    found: dict[str, Field] = {}
    for field in fields(name):
        if field.inline:
            found.update(json_fields(field.type))
        else:
            found[field.name] = field
    return found


def _field(text: str) -> Field:
    name, _, rest = text.partition("=")
    number, _, described = rest.partition(":")
    described, _, printed = described.partition("@")
    kind = described.rstrip("?!*%&^")
    flags = described[len(kind) :]
    return Field(
        name,
        int(number),
        kind,
        pointer="?" in flags,
        always="!" in flags,
        is_list="*" in flags or "&" in flags,
        is_map="%" in flags,
        wrapped="&" in flags,
        inline="^" in flags,
        printed=printed,
    )


@lru_cache(maxsize=1)
def _lines() -> dict[str, str]:
    # a plain path: importlib.resources takes longer to import than this takes to read
    text = Path(__file__).with_name("facts.txt").read_text("utf-8")
    found = {}
    for line in text.splitlines():
        name, _, described = line.partition(" ")
        found[name] = described
    return found
