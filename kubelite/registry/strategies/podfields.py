"""What becomes of some fields of pods and pod templates before they are looked at: those of features that are off by default
go, annotations of old become fields, and what a pod's own labels say goes into its selectors.

Source: kubernetes pkg/api/pod/util.go (dropDisabledFields), pkg/registry/core/pod/strategy.go and pkg/features, v1.34.
"""

from collections.abc import Iterator, Mapping

from kubelite.meta.types import Obj
from kubelite.registry.validation import pods, podspecs, podstatuses
from kubelite.registry.validation.placement import PREFERRED, REQUIRED

#: Annotations that init containers had before they were a field.
_INIT_ANNOTATIONS = tuple(
    f"pod.{stage}.kubernetes.io/init-container{what}" for stage in ("alpha", "beta") for what in ("s", "-statuses")
)


def normalize(holder: Obj | None) -> None:
    """Brings a pod or a pod template, in normal form and owned by the caller, into the form that is stored."""
    if not holder:
        return
    annotations = (holder.get("metadata") or {}).get("annotations")
    if annotations and any(key in annotations for key in _INIT_ANNOTATIONS):
        for key in _INIT_ANNOTATIONS:
            annotations.pop(key, None)
        if not annotations:
            del holder["metadata"]["annotations"]
    spec = holder.get("spec")
    if spec:
        _drop_disabled(spec)


def _drop_disabled(spec: Obj) -> None:
    spec.pop("hostnameOverride", None)  # KEP-4762
    images = _drop_sources(spec["volumes"]) if "volumes" in spec else set()
    if images:
        _drop_named(spec, "volumes", images)
    for field in podspecs.CONTAINER_FIELDS:
        for container in spec.get(field) or ():
            if "restartPolicy" in container and not (field == "initContainers" and container["restartPolicy"] == "Always"):
                del container["restartPolicy"]  # KEP-5307
            container.pop("restartPolicyRules", None)
            if "env" in container:
                for variable in container["env"]:
                    if "valueFrom" in variable:
                        variable["valueFrom"].pop("fileKeyRef", None)  # KEP-5307
            if "stopSignal" in container.get("lifecycle", ()):  # KEP-4960
                del container["lifecycle"]["stopSignal"]
                if not container["lifecycle"]:
                    del container["lifecycle"]
            if images and "volumeMounts" in container:
                _drop_named(container, "volumeMounts", images)


def _drop_named(holder: Obj, field: str, names: set[str]) -> None:
    holder[field] = [item for item in holder[field] if item.get("name", "") not in names]
    if not holder[field]:
        del holder[field]


def _drop_sources(volumes: list[Obj]) -> set[str]:
    """Takes projections that are off out of volumes; the names of the volumes whose whole source is (images, KEP-4639)."""
    images = set()
    for volume in volumes:
        if "image" in volume:
            images.add(volume.get("name", ""))
        for projection in (volume.get("projected") or {}).get("sources") or ():
            projection.pop("clusterTrustBundle", None)  # KEP-3257
            projection.pop("podCertificate", None)  # KEP-4317
    return images


def mirror_address(status: Obj) -> None:
    """A pod's first address stands in two fields, of which a client may know the older one only."""
    first, listed = status.get("podIP"), status.get("podIPs")
    if first and (not listed or listed[0].get("ip") != first):
        status["podIPs"] = [{"ip": first}]
    elif listed and listed[0].get("ip"):
        status["podIP"] = listed[0]["ip"]


def drop_disabled_status(status: Obj) -> None:
    """Takes what features that are off write out of a pod's status."""
    status.pop("extendedResourceClaimStatus", None)  # KEP-5004
    for field, _ in podstatuses.STATUSES:
        for container in status.get(field) or ():
            container.pop("allocatedResourcesStatus", None)  # KEP-4680


def merge_label_keys(pod: Obj) -> None:
    """Adds the pod's own values of `matchLabelKeys` and `mismatchLabelKeys` to the selectors that they narrow (KEP-3633 and
    KEP-3243)."""
    spec, labels = pod["spec"], pod["metadata"].get("labels") or {}
    for term in (*_affinity_terms(spec.get("affinity") or {}), *(spec.get("topologySpreadConstraints") or ())):
        selector = term.get("labelSelector")
        if selector is None:
            continue
        for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
            added = [
                {"key": key, "operator": operator, "values": [labels[key]]} for key in term.get(field) or () if key in labels
            ]
            if added:
                selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), *added]


def _affinity_terms(affinity: Obj) -> Iterator[Obj]:
    for name in ("podAffinity", "podAntiAffinity"):
        pod = affinity.get(name) or {}
        yield from (weighted["podAffinityTerm"] for weighted in pod.get(PREFERRED) or () if "podAffinityTerm" in weighted)
        yield from pod.get(REQUIRED) or ()


def adopt_apparmor(spec: Obj, annotations: Mapping[str, str]) -> list[str]:
    """Gives containers the AppArmor profiles that annotations of old say; the warnings of those that say what no field does."""
    if (spec.get("os") or {}).get("name") == "windows":
        return []
    warnings: list[str] = []
    own = (spec.get("securityContext") or {}).get("appArmorProfile")
    for _, container in podspecs.each_container(spec, ""):
        key = f"{pods.APPARMOR}{container.get('name', '')}"
        context = container.get("securityContext") or {}
        if key not in annotations or "appArmorProfile" in context:
            continue
        profile = pods.apparmor_profile(annotations[key])
        if profile is not None and profile != own:
            container["securityContext"] = {**context, "appArmorProfile": profile}
        if profile is None or profile != own:
            warnings.append(f'metadata.annotations[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead')
    return warnings
