"""Who selects a pod: services, and the controller that owns it. What pods without constraints of their own spread by.

Source: plugins/helper/spread.go DefaultSelector, v1.34.
"""

from kubelite.meta import selectors
from kubelite.meta.selectors import LabelSelector
from kubelite.meta.types import Obj
from kubelite.scheduler.templates import Template

#: By resource: (API version, kind).
KINDS = {
    "replicationcontrollers": ("v1", "ReplicationController"),
    "replicasets.apps": ("apps/v1", "ReplicaSet"),
    "statefulsets.apps": ("apps/v1", "StatefulSet"),
}


#: Its selector is plain labels, which overrule those of services.
_PLAIN = KINDS["replicationcontrollers"]


class Owners:
    """Kept current by the scheduler's event handlers. `version` grows when a selector may be another than before."""

    def __init__(self) -> None:
        self.version = 0
        self._services: dict[str, dict[str, dict[str, str]]] = {}
        #: By kind, namespace and name.
        self._controllers: dict[tuple[tuple[str, str], str, str], LabelSelector] = {}

    def service_changed(self, old: Obj | None, new: Obj | None) -> None:
        meta = (new or old or {})["metadata"]
        namespace, name = meta["namespace"], meta["name"]
        selector = ((new or {}).get("spec") or {}).get("selector") or {}
        services = self._services.setdefault(namespace, {})
        if services.get(name, {}) == selector:
            return
        if selector:
            services[name] = selector
        else:
            del services[name]
        self.version += 1

    def controller_changed(self, resource: str, old: Obj | None, new: Obj | None) -> None:
        meta = (new or old or {})["metadata"]
        key = KINDS[resource], meta["namespace"], meta["name"]
        if new is None:
            self.version += self._controllers.pop(key, None) is not None
            return
        given = (new.get("spec") or {}).get("selector")
        if old is not None and (old.get("spec") or {}).get("selector") == given and key in self._controllers:
            return
        try:
            selector = selectors.from_labels(given) if key[0] == _PLAIN else selectors.from_object(given)
        except ValueError:  # an unreadable selector adds nothing
            selector = selectors.EVERYTHING
        self._controllers[key] = selector
        self.version += 1

    def selector_of(self, template: Template) -> LabelSelector | None:
        """What selects the template's pods; None where nothing does."""
        merged: dict[str, str] = {}
        for selector in self._services.get(template.namespace, {}).values():
            if selector.items() <= template.labels.items():
                merged |= selector
        owner = template.owner or {}
        kind = owner.get("apiVersion", ""), owner.get("kind", "")
        controller = self._controllers.get((kind, template.namespace, owner.get("name", "")), selectors.EVERYTHING)
        if kind == _PLAIN:
            merged |= {r.key: r.values[0] for r in controller.requirements}
            controller = selectors.EVERYTHING
        found = selectors.from_labels(merged).requirements
        found = (*found, *(r for r in controller.requirements if r not in found))
        return LabelSelector(found) if found else None
