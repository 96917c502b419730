"""Which requests a webhook or a policy is for: rules, namespace selector, object selector.

What depends only on operation and kind is asked once and kept by the caller; the selectors are asked for each request.

Source: apiserver pkg/admission/plugin/webhook/predicates/{rules,namespace,object}, policy/matching.
"""

from collections.abc import Iterable, Sequence

from kubelite.client.contract import Client
from kubelite.client.informers import Informer
from kubelite.meta import errors, selectors
from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind

_OWN_GROUP = "admissionregistration.k8s.io"


class Matcher:
    """The conditions of one webhook or policy."""

    def __init__(
        self,
        rules: Sequence[Obj],
        *,
        excluded: Sequence[Obj] = (),
        namespace_selector: Obj | None = None,
        object_selector: Obj | None = None,
        equivalent: bool = True,
    ) -> None:
        self._rules = rules
        self._excluded = excluded
        # An absent selector matches everything here, where from_object(None) matches nothing.
        self._namespaces = selectors.from_object(namespace_selector or {})
        self._objects = selectors.from_object(object_selector or {})
        self._equivalent = equivalent

    def matches_kind(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        """Whether a rule is for this operation on this kind. Configurations of admission itself are never matched, so that
        nobody locks everybody out."""
        if kind.group == _OWN_GROUP and not kind.plural.startswith("mutatingadmissionpolic"):
            return False
        return any(self._matches(rule, operation, kind, subresource) for rule in self._rules)

    def is_for(self, attributes: Attributes, namespace_labels: dict[str, str] | None) -> bool:
        """Whether the selectors match; `namespace_labels` None: the object is in no namespace."""
        target = attributes.target
        if not self._namespaces.is_everything and namespace_labels is not None and not self._namespaces.matches(namespace_labels):
            return False
        if not self._objects.is_everything and not any(
            self._objects.matches((obj.get("metadata") or {}).get("labels") or {})
            for obj in (attributes.obj, attributes.old)
            if obj is not None
        ):
            return False
        if not any(
            self._matches(rule, attributes.operation, target.kind, target.subresource) and _has_name(rule, target.name)
            for rule in self._rules
        ):
            return False
        return not any(
            self._matches(rule, attributes.operation, target.kind, target.subresource) and _has_name(rule, target.name)
            for rule in self._excluded
        )

    @property
    def needs_namespace(self) -> bool:
        return not self._namespaces.is_everything

    def _matches(self, rule: Obj, operation: Operation, kind: Kind, subresource: str) -> bool:
        operations = rule.get("operations") or ()
        if "*" not in operations and operation not in operations:
            return False
        if not _has(rule.get("apiGroups"), kind.group):
            return False
        if not self._equivalent and not _has(rule.get("apiVersions"), kind.version):
            return False
        is_namespaced = kind.namespaced and kind.group_resource != "namespaces"
        if rule.get("scope", "*") not in ("*", "Namespaced" if is_namespaced else "Cluster"):
            return False
        return any(_matches_resource(text, kind.plural, subresource) for text in rule.get("resources") or ())


def _has(values: Iterable[str] | None, value: str) -> bool:
    found = values or ()
    return "*" in found or value in found


def _has_name(rule: Obj, name: str) -> bool:
    names = rule.get("resourceNames")
    return not names or name in names


def _matches_resource(text: str, resource: str, subresource: str) -> bool:
    wanted, _, wanted_subresource = text.partition("/")
    return wanted in ("*", resource) and wanted_subresource in ("*", subresource)


async def namespace_labels(namespaces: Informer, client: Client, attributes: Attributes) -> dict[str, str] | None:
    """The labels that namespace selectors look at: of the object's namespace, of a namespace itself, None for others."""
    target = attributes.target
    if target.kind.group_resource == "namespaces":
        obj = attributes.obj if attributes.operation != "DELETE" and not target.subresource else attributes.old
        obj = obj or attributes.old or {}
        labels: dict[str, str] = (obj.get("metadata") or {}).get("labels") or {}
        return labels
    namespace = await namespace_of(namespaces, client, attributes)
    return None if namespace is None else namespace["metadata"].get("labels") or {}


async def namespace_of(namespaces: Informer, client: Client, attributes: Attributes) -> Obj | None:
    """The namespace of a request's object, None for what is in none.

    Raises:
        NotFound: there is no such namespace.
    """
    name = attributes.target.namespace
    if not name or not attributes.target.kind.namespaced:
        return None
    found = namespaces.get(name)
    if found is not None:
        return found
    try:
        return await client.get("namespaces", name)
    except errors.NotFound:
        raise errors.NotFound.of("", "namespaces", name) from None
