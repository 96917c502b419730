"""What a pod's specification refers to. Pure; covers ordinary, init and ephemeral containers and every kind of volume.

Source: kubernetes pkg/api/v1/pod/util.go (VisitPodSecretNames, VisitPodConfigmapNames), pkg/api/pod/util.go.
"""

from collections.abc import Iterator
from typing import Any

from kubelite.meta.types import Obj

#: The conditions of a pod that its node alone sets.
#: Source: pkg/kubelet/types/pod_status.go PodConditionsByKubelet.
NODE_CONDITIONS = (
    "PodScheduled",
    "Ready",
    "Initialized",
    "ContainersReady",
    "PodReadyToStartContainers",
    "PodResizePending",
    "PodResizeInProgress",
)
#: Volume sources whose secret is named under `secretRef.name`.
_SECRET_REF_VOLUMES = ("cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos")


def containers(spec: Obj) -> Iterator[Obj]:
    """Every container of a pod's spec: init, ordinary and ephemeral ones."""
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(field) or ()


def secrets(pod: Obj) -> set[str]:
    """The names of the secrets that a pod may read."""
    spec = pod.get("spec") or {}
    found = {ref.get("name") for ref in spec.get("imagePullSecrets") or ()}
    found |= _environment(spec, "secretRef", "secretKeyRef")
    for volume in spec.get("volumes") or ():
        found.add((volume.get("secret") or {}).get("secretName"))
        found.add((volume.get("azureFile") or {}).get("secretName"))
        for kind in _SECRET_REF_VOLUMES:
            found.add(((volume.get(kind) or {}).get("secretRef") or {}).get("name"))
        found.add(((volume.get("csi") or {}).get("nodePublishSecretRef") or {}).get("name"))
        found |= {(source.get("secret") or {}).get("name") for source in (volume.get("projected") or {}).get("sources") or ()}
    return {name for name in found if name}


def config_maps(pod: Obj) -> set[str]:
    """The names of the config maps that a pod may read."""
    spec = pod.get("spec") or {}
    found = _environment(spec, "configMapRef", "configMapKeyRef")
    for volume in spec.get("volumes") or ():
        found.add((volume.get("configMap") or {}).get("name"))
        found |= {(source.get("configMap") or {}).get("name") for source in (volume.get("projected") or {}).get("sources") or ()}
    return {name for name in found if name}


def claims(pod: Obj) -> set[str]:
    """The names of the persistent volume claims that a pod uses, those of its ephemeral volumes too."""
    found = set()
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            found.add(volume["persistentVolumeClaim"]["claimName"])
        elif "ephemeral" in volume:
            found.add(f"{pod['metadata']['name']}-{volume['name']}")
    return found


def resource_claims(pod: Obj) -> set[str]:
    """The names of the resource claims that a pod uses."""
    found = {claim.get("resourceClaimName") for claim in (pod.get("spec") or {}).get("resourceClaims") or ()}
    found |= {claim.get("resourceClaimName") for claim in (pod.get("status") or {}).get("resourceClaimStatuses") or ()}
    return {name for name in found if name}


def service_account(pod: Obj) -> str:
    return (pod.get("spec") or {}).get("serviceAccountName") or ""


def requests_token(pod: Obj) -> bool:
    """Whether a volume of the pod projects a service account token."""
    return any(
        "serviceAccountToken" in source
        for volume in (pod.get("spec") or {}).get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
    )


def is_finished(pod: Obj) -> bool:
    """Whether no container of the pod will run again."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _environment(spec: Obj, whole: str, key: str) -> set[Any]:
    found = set()
    for container in containers(spec):
        found |= {(source.get(whole) or {}).get("name") for source in container.get("envFrom") or ()}
        found |= {((env.get("valueFrom") or {}).get(key) or {}).get("name") for env in container.get("env") or ()}
    return found
