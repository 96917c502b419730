"""Which objects a list, a watch or a deletecollection means: the parsed label and field selectors.

Source: apimachinery pkg/runtime (field label conversion), apiserver pkg/storage SelectionPredicate, v0.34.
"""

from kubelite.meta import selectors
from kubelite.meta.errors import BadRequest
from kubelite.registry.contract import View
from kubelite.schema.kinds import Kind


class Selection:
    """Both selectors of one request. `name` and `namespace` are what the field selector pins, or empty."""

    __slots__ = ("fields", "labels", "name", "namespace")

    def __init__(self, labels: selectors.LabelSelector | None, fields: selectors.FieldSelector | None) -> None:
        self.labels = labels
        self.fields = fields
        self.name = (fields.exact("metadata.name") or "") if fields is not None else ""
        self.namespace = (fields.exact("metadata.namespace") or "") if fields is not None else ""

    @property
    def is_everything(self) -> bool:
        return self.labels is None and self.fields is None

    def matches(self, view: View) -> bool:
        return (self.labels is None or self.labels.matches(view.labels)) and (
            self.fields is None or self.fields.matches(view.fields)
        )


EVERYTHING = Selection(None, None)


def of(kind: Kind, label_selector: str, field_selector: str) -> Selection:
    """The selection that the query's texts mean for this kind.

    Raises:
        BadRequest: a text does not parse, or names a field that this kind cannot be selected by.
    """
    if not label_selector and not field_selector:
        return EVERYTHING
    try:
        labels = selectors.parse_labels(label_selector) if label_selector else None
        fields = selectors.parse_fields(field_selector) if field_selector else None
    except ValueError as e:
        raise BadRequest(str(e)) from e
    if fields is not None:
        for name in fields.fields:
            if name not in ("metadata.name", "metadata.namespace") and name not in kind.selectable_fields:
                raise BadRequest(_unsupported(kind, name))
    return Selection(labels, fields)


def _unsupported(kind: Kind, name: str) -> str:
    if kind.selectable_fields or kind.custom:
        return f"field label not supported: {name}"
    return f'"{name}" is not a known field selector: only "metadata.name", "metadata.namespace"'
