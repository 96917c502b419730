import pytest

from kubelite.admission import pod_security as standards
from kubelite.admission.plugins import pod_security
from kubelite.meta import errors
from kubelite.meta.types import Obj
from tests.admission.fakes import StaticClient, pod, request
from tests.auth.fakes import StaticInformers, named

PREFIX = pod_security.PREFIX
RESTRICTED: Obj = {
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}


def plugin(**labels: str) -> tuple[pod_security.PodSecurity, StaticInformers]:
    labelled = {PREFIX + key.replace("_", "-"): value for key, value in labels.items()}
    informers = StaticInformers({"namespaces": [named("ns", metadata={"labels": labelled})], "pods": []})
    return pod_security.PodSecurity(StaticClient(informers), informers), informers  # type: ignore[arg-type]


async def test_without_labels_everything_is_allowed() -> None:
    checked, _ = plugin()
    attributes = request("CREATE", "pods", pod(hostNetwork=True))
    await checked.validate(attributes)
    assert attributes.warnings == []


async def test_baseline_refuses_host_namespaces_and_privileged_containers() -> None:
    checked, _ = plugin(enforce="baseline")
    bad = pod(hostNetwork=True, hostPID=True, initContainers=[{"name": "i", "securityContext": {"privileged": True}}])
    with pytest.raises(errors.Forbidden) as refused:
        await checked.validate(request("CREATE", "pods", bad))
    assert refused.value.message == (
        'pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true, hostPID=true), '
        'privileged (container "i" must not set securityContext.privileged=true)'
    )
    await checked.validate(request("CREATE", "pods", pod()))


async def test_restricted_lists_all_that_a_plain_pod_lacks() -> None:
    checked, _ = plugin(enforce="restricted", enforce_version="v1.30")
    with pytest.raises(errors.Forbidden) as refused:
        await checked.validate(request("CREATE", "pods", pod()))
    assert refused.value.message == (
        'pods "p" is forbidden: violates PodSecurity "restricted:v1.30": '
        'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), '
        'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), '
        'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), '
        'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
    )
    await checked.validate(request("CREATE", "pods", pod(containers=[{"name": "c", "securityContext": RESTRICTED}])))


@pytest.mark.parametrize(
    ("spec", "detail"),
    [
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, 'hostPath volumes (volume "v")'),
        ({"containers": [{"name": "c", "ports": [{"hostPort": 80}]}]}, 'hostPort (container "c" uses hostPort 80)'),
        ({"securityContext": {"sysctls": [{"name": "kernel.x"}]}}, "forbidden sysctls (kernel.x)"),
        (
            {"containers": [{"name": "c", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]},
            'non-default capabilities (container "c" must not include "SYS_ADMIN" in securityContext.capabilities.add)',
        ),
        (
            {"ephemeralContainers": [{"name": "e", "securityContext": {"procMount": "Unmasked"}}]},
            'procMount (container "e" must not set securityContext.procMount to "Unmasked")',
        ),
        (
            {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
            'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        (
            {"securityContext": {"seLinuxOptions": {"type": "x", "user": "u"}}},
            'seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "x"; user may not be set)',
        ),
        (
            {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
            'forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")',
        ),
        (
            {"containers": [{"name": "c", "livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}]},
            'probe or lifecycle host (container "c" uses probe or lifecycle host "10.0.0.1")',
        ),
    ],
)
def test_each_baseline_check_says_what_is_wrong(spec: Obj, detail: str) -> None:
    whole = {"containers": [{"name": "c"}], **spec}
    assert standards.format_faults(standards.faults("baseline", standards.NEWEST, {}, whole)) == detail


def test_restricted_replaces_the_baseline_checks_that_it_sharpens() -> None:
    spec = {
        "volumes": [{"name": "h", "hostPath": {}}, {"name": "n", "nfs": {}}],
        "containers": [{"name": "c", "securityContext": RESTRICTED | {"runAsUser": 0, "capabilities": {"add": ["CHOWN"]}}}],
    }
    assert standards.format_reasons(standards.faults("restricted", standards.NEWEST, {}, spec)) == (
        "unrestricted capabilities, restricted volume types, runAsUser=0"
    )


async def test_templates_are_warned_about_and_not_refused() -> None:
    checked, _ = plugin(enforce="baseline")
    deployment = named("d", "ns", spec={"template": {"spec": {"hostPID": True, "containers": []}}})
    attributes = request("CREATE", "deployments.apps", deployment)
    await checked.validate(attributes)
    assert attributes.warnings == ['would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)']


async def test_only_significant_updates_of_a_pod_are_checked() -> None:
    checked, _ = plugin(enforce="baseline")
    old = pod(hostPID=True)
    await checked.validate(request("UPDATE", "pods", old | {"metadata": old["metadata"] | {"labels": {"a": "b"}}}, old=old))
    with pytest.raises(errors.Forbidden):
        new_image = pod(hostPID=True, containers=[{"name": "c", "image": "other"}])
        await checked.validate(request("UPDATE", "pods", new_image, old=old))
    with pytest.raises(errors.Forbidden):
        with_debugger = pod(hostPID=True, ephemeralContainers=[{"name": "d", "image": "x"}])
        await checked.validate(request("UPDATE", "pods", with_debugger, old=old, subresource="ephemeralcontainers"))


async def test_a_namespaces_labels_must_be_readable() -> None:
    checked, _ = plugin()
    with pytest.raises(errors.Invalid) as refused:
        bad = named("x", metadata={"labels": {f"{PREFIX}enforce": "strict", f"{PREFIX}warn-version": "1.2"}})
        await checked.validate(request("CREATE", "namespaces", bad))
    assert [c.field for c in refused.value.causes] == [
        "metadata.labels[pod-security.kubernetes.io/enforce]",
        "metadata.labels[pod-security.kubernetes.io/warn-version]",
    ]


async def test_a_stricter_namespace_warns_of_the_pods_it_has() -> None:
    checked, informers = plugin()
    for name in ("b", "a"):
        informers.put("pods", pod(name, hostPID=True))
    old = named("ns")
    attributes = request("UPDATE", "namespaces", named("ns", metadata={"labels": {f"{PREFIX}enforce": "baseline"}}), old=old)
    await checked.validate(attributes)
    assert attributes.warnings == [
        'existing pods in namespace "ns" violate the new PodSecurity enforce level "baseline:latest"',
        "a (and 1 other pod): host namespaces",
    ]
