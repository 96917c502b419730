"""The refusals of admission plugins.

Source: apiserver pkg/admission/errors.go.
"""

from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes


def forbidden(attributes: Attributes, why: str, causes: tuple[errors.Cause, ...] = ()) -> errors.Forbidden:
    """`pods "web" is forbidden: WHY`, about the object of a request."""
    kind = attributes.target.kind
    name = name_of(attributes) or "Unknown"
    text = f'{kind.group_resource} "{name}" is forbidden: {why}'
    return errors.Forbidden(text, group=kind.group, kind=kind.plural, name=name, causes=causes)


def name_of(attributes: Attributes) -> str:
    """The object's name; what its name will start with where that is generated after admission."""
    if attributes.target.name:
        return attributes.target.name
    metadata: Obj = (attributes.obj or {}).get("metadata") or {}
    return metadata.get("name") or metadata.get("generateName") or ""
