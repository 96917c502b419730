"""TaintNodesByCondition: a new node takes no pods until it is ready.

Source: plugin/pkg/admission/nodetaint.
"""

from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind

TAINT = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


class TaintNodesByCondition:
    name = "TaintNodesByCondition"

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        return operation == "CREATE" and kind.group_resource == "nodes" and not subresource

    async def admit(self, attributes: Attributes) -> Obj | None:
        node = attributes.obj
        if node is None:
            return None
        spec = node.get("spec") or {}
        taints = spec.get("taints") or []
        if any(t.get("key") == TAINT["key"] and t.get("effect") == TAINT["effect"] for t in taints):
            return node
        return node | {"spec": spec | {"taints": [*taints, TAINT]}}
