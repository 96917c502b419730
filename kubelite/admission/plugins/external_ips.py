"""DenyServiceExternalIPs: services get no external IPs, which would let their owners take over others' traffic.

Off by default in Kubernetes; on here (CVE-2020-8554), for an administrator to switch off.

Source: plugin/pkg/admission/denyserviceexternalips.
"""

from kubelite.admission import faults
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind


class DenyServiceExternalIPs:
    name = "DenyServiceExternalIPs"

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        return operation in ("CREATE", "UPDATE") and kind.group_resource == "services" and not subresource

    async def validate(self, attributes: Attributes) -> None:
        new = ((attributes.obj or {}).get("spec") or {}).get("externalIPs") or []
        old = ((attributes.old or {}).get("spec") or {}).get("externalIPs") or []
        if set(new) - set(old):
            raise faults.forbidden(attributes, "Use of external IPs is denied by admission control")
