"""Built-in types as msgspec types, made at run time from the facts of the wire.

Converting an object to its model and back does in C what Kubernetes' own decoding does: unknown fields and wrong types are
refused, zero values of optional fields go, fields that are always written appear, quantities and times get their one form.
Models are made when their type is first met.
"""

import base64
import binascii
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Annotated, Any, ForwardRef, Union

import msgspec

from kubelite.meta import quantities, times
from kubelite.meta.types import Obj
from kubelite.schema import facts


class Text:
    """A text in its one form; the subclasses say which."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Quantity(Text):
    __slots__ = ()


class Time(Text):
    __slots__ = ()


class MicroTime(Text):
    __slots__ = ()


class Bytes(Text):
    __slots__ = ()


class Number(Text):
    """A float, whose JSON text is that of an integer where it is whole."""

    __slots__ = ()


class SchemaOrMore(Text):
    """A schema or a list of such; whatever else is taken for none of them, as the real server does."""

    __slots__ = ()


class SchemaOrTexts(Text):
    """A schema or a list of texts, as `SchemaOrMore`."""

    __slots__ = ()


_Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
#: The one type that contains itself: its model is looked up when it is used, since it is not made yet where it is named.
_SCHEMA_NAME = "apiextensions.v1.JSONSchemaProps"
_SCHEMA = ForwardRef("model(_SCHEMA_NAME)")
_SCALARS: dict[str, Any] = {"string": str, "int32": _Int32, "int64": _Int64, "bool": bool, "double": Number, "bytes": Bytes}
_SPECIAL: dict[str, Any] = {
    "Quantity": Quantity,
    "Time": Time,
    "MicroTime": MicroTime,
    "Duration": str,
    "FieldsV1": dict[str, Any],
    "IntOrString": int | str,
    "RawExtension": Any,
    "JSON": Any,
    "JSONSchemaPropsOrBool": Union[_SCHEMA, bool],  # noqa: UP007 -- a forward reference has no operator
    "JSONSchemaPropsOrArray": SchemaOrMore,
    "JSONSchemaPropsOrStringArray": SchemaOrTexts,
}
_NO_BYTES = Bytes("")
#: The values that optional fields are left out with; msgspec knows them by their identity.
_ZEROS: dict[str, Any] = {"string": "", "int32": 0, "int64": 0, "bool": False, "bytes": _NO_BYTES}


def normal(name: str, obj: Obj) -> Obj:
    """A new object that says the same in the form that the API writes.

    Raises:
        msgspec.ValidationError: a field is not known, or its value is of another type.
    """
    built: Obj = msgspec.to_builtins(msgspec.convert(obj, model(name), dec_hook=decode), enc_hook=_encode)
    return built


def check(name: str, obj: Obj) -> None:
    """
    Raises:
        msgspec.ValidationError: a field is not known, or its value is of another type.
    """
    msgspec.convert(obj, model(name), dec_hook=decode)


@cache
def model(name: str) -> type:
    """The msgspec type of a type of `facts`, of a kind's whole objects where it is one."""
    members: list[tuple[str, Any, Any]] = []
    if facts.has_type_meta(name):
        members += [_type_field("kind"), _type_field("apiVersion")]
    for position, field in enumerate(facts.json_fields(name).values()):
        annotation, default = _member(field)
        # attributes have names of their own, since JSON names may be Python's keywords
        members.append((f"f{position}", annotation, msgspec.field(name=field.name, **default)))
    made: type = msgspec.defstruct(
        name.replace(".", "_"), members, omit_defaults=True, forbid_unknown_fields=True, gc=False, module=__name__
    )
    return made


def _type_field(name: str) -> tuple[str, Any, Any]:
    return f"type_{name}", str, msgspec.field(name=name, default="")


def _member(field: facts.Field) -> tuple[Any, dict[str, Any]]:
    """A field's annotation and its default."""
    annotation = _annotation(field.type)
    if field.is_map or field.is_list:
        inner = list.__class_getitem__(annotation) if field.wrapped or not field.is_map else annotation
        annotation = dict.__class_getitem__((str, inner)) if field.is_map else inner
        if field.always or field.pointer:
            # present and empty says something else than absent; absent ones are left out rather than written as null
            return annotation | msgspec.UnsetType, {"default": msgspec.UNSET}
        return annotation, {"default_factory": dict if field.is_map else list}
    if field.pointer or not (field.always or field.type in _ZEROS):
        return annotation | msgspec.UnsetType, {"default": msgspec.UNSET}
    if not field.always:
        return annotation, {"default": _ZEROS[field.type]}
    # what a factory makes is always written, whatever omit_defaults says; absent bytes would be null
    if field.type in _ZEROS and field.type != "bytes":
        zero = _ZEROS[field.type]
        return annotation, {"default_factory": lambda: zero}
    if field.type == "Quantity":
        return annotation, {"default_factory": lambda: _ZERO_QUANTITY}
    if field.type == "IntOrString":
        return annotation, {"default_factory": lambda: 0}
    if field.is_message:
        return annotation, {"default_factory": annotation}
    return annotation | msgspec.UnsetType, {"default": msgspec.UNSET}


def _annotation(name: str) -> Any:
    if name == _SCHEMA_NAME:
        return _SCHEMA
    return _SCALARS.get(name) or _SPECIAL.get(name) or model(name)


_ZERO_QUANTITY = Quantity("0")


def decode(kind: type, value: Any) -> Any:
    """A text of one of the types here from a JSON value, for msgspec.

    Raises:
        ValueError: the value is none; its text is the API's.
    """
    if kind in _FORMS:
        return kind(_FORMS[kind](value))
    if kind is Quantity:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(quantities.FORMAT_FAULT)
        return _quantity(value)
    if not isinstance(value, str):
        raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
    if kind is Time:
        return _time(value)
    if kind is MicroTime:
        return MicroTime(times.format_micro_time(times.parse_micro_time(value)))
    try:
        decoded = binascii.a2b_base64(value, strict_mode=True)
    except binascii.Error:
        # line breaks are allowed within
        joined = value.replace("\n", "").replace("\r", "")
        try:
            decoded = binascii.a2b_base64(joined, strict_mode=True)
        except binascii.Error:
            raise ValueError(f"illegal base64 data at input byte {_bad_byte(value)}") from None
        value = base64.b64encode(decoded).decode()
    return Bytes(value) if value else _NO_BYTES


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"Expected `float`, got `{type(value).__name__}`")
    whole = float(value)
    return int(whole) if whole.is_integer() and abs(whole) < _LONGEST_WHOLE else whole


#: Numbers from here on are written with an exponent.
_LONGEST_WHOLE = 1e21


def _schema_or(more: Any) -> Callable[[Any], Any]:
    """A function that reads a schema, or a list of what `more()` is, and takes whatever else for nothing."""

    def read(value: Any) -> Any:
        if isinstance(value, dict):
            return msgspec.convert(value, model(_SCHEMA_NAME), dec_hook=decode)
        return (
            msgspec.convert(value, list.__class_getitem__(more()), dec_hook=decode) if value and isinstance(value, list) else None
        )

    return read


#: How values are read whose types decode themselves.
_FORMS: dict[type, Callable[[Any], Any]] = {
    Number: _number,
    SchemaOrMore: _schema_or(lambda: model(_SCHEMA_NAME)),
    SchemaOrTexts: _schema_or(lambda: str),
}


def _bad_byte(value: str) -> int:
    """The position of the first letter that ends a valid base64 text too early."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for position, letter in enumerate(value):
        if letter not in letters and letter not in "\r\n":
            return position
    return len(value) // 4 * 4


@lru_cache(maxsize=4096)
def _quantity(value: str | int | float) -> Quantity:
    return Quantity(quantities.canonical(value))


@lru_cache(maxsize=4096)
def _time(value: str) -> Time:
    return Time(times.format_time(times.parse_time(value)))


def _encode(value: Any) -> Any:
    return value.text
