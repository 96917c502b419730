"""DefaultIngressClass: an ingress without a class gets the default one.

Source: plugin/pkg/admission/network/defaultingressclass.
"""

from kubelite.admission import defaultclasses
from kubelite.client.informers import Informers
from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind


class DefaultIngressClass:
    name = "DefaultIngressClass"

    def __init__(self, informers: Informers) -> None:
        self._classes = informers.of("ingressclasses.networking.k8s.io")

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        return operation == "CREATE" and kind.group_resource == "ingresses.networking.k8s.io" and not subresource

    async def admit(self, attributes: Attributes) -> Obj | None:
        ingress = attributes.obj
        if ingress is None or (ingress.get("spec") or {}).get("ingressClassName") is not None:
            return ingress
        if "kubernetes.io/ingress.class" in (ingress["metadata"].get("annotations") or {}):
            return ingress
        default = defaultclasses.find(self._classes.list(), defaultclasses.INGRESS)
        if default is None:
            return ingress
        return ingress | {"spec": (ingress.get("spec") or {}) | {"ingressClassName": default["metadata"]["name"]}}
