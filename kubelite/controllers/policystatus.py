"""The status of validating admission policies.

Source: kubernetes pkg/controller/validatingadmissionpolicystatus, v1.34.
"""

from typing import ClassVar

from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller


class PolicyStatus(Controller):
    """Notes which generation of a policy was looked at. Its expressions are checked when it is written."""

    name: ClassVar[str] = "validatingadmissionpolicy-status-controller"
    workers: ClassVar[int] = 1
    resource: ClassVar[str] = "validatingadmissionpolicies.admissionregistration.k8s.io"

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._policies = self.informer(self.resource)
        self.follow(self._policies)

    async def reconcile(self, key: str) -> None:
        policy = self._policies.get(key)
        if policy is None:
            return
        generation, status = policy["metadata"].get("generation", 0), policy.get("status") or {}
        if status.get("observedGeneration") != generation or "typeChecking" not in status:
            wanted = {**status, "observedGeneration": generation, "typeChecking": {}}
            obj = {**policy, "metadata": {**policy["metadata"]}, "status": wanted}
            await self.client.update(self.resource, obj, subresource="status")
