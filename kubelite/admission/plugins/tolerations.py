"""DefaultTolerationSeconds: pods stay for five minutes on a node that is not ready or unreachable.

Source: plugin/pkg/admission/defaulttolerationseconds.
"""

from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind

TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


class DefaultTolerationSeconds:
    name = "DefaultTolerationSeconds"

    def __init__(self, seconds: int = 300) -> None:
        self._tolerations = tuple(
            {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds} for taint in TAINTS
        )

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        return operation in ("CREATE", "UPDATE") and kind.group_resource == "pods" and not subresource

    async def admit(self, attributes: Attributes) -> Obj | None:
        pod = attributes.obj
        if pod is None:
            return None
        given = pod["spec"].get("tolerations") or []
        covered = {t.get("key") or "" for t in given if (t.get("effect") or "NoExecute") == "NoExecute"}
        if "" in covered:
            return pod
        missing = [t for t in self._tolerations if t["key"] not in covered]
        return pod | {"spec": pod["spec"] | {"tolerations": [*given, *missing]}} if missing else pod
