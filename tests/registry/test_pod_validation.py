"""What is wrong with a pod is said with its field and its cause."""

import copy
from typing import Any

from kubelite.registry.validation import pods


def pod(**spec: Any) -> dict[str, Any]:
    container = {
        "name": "c",
        "image": "busybox",
        "imagePullPolicy": "Always",
        "terminationMessagePolicy": "File",
    }
    defaults = {
        "containers": [container],
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30,
    }
    return {"metadata": {"name": "p", "namespace": "default"}, "spec": {**defaults, **spec}}


def with_container(**fields: Any) -> dict[str, Any]:
    out = pod()
    out["spec"]["containers"][0].update(fields)
    return out


def texts(obj: dict[str, Any]) -> list[str]:
    return [str(cause) for cause in pods.check_pod(obj)]


def test_a_plain_pod_is_fine() -> None:
    assert texts(pod()) == []


def test_a_pod_without_containers_names_the_field() -> None:
    assert texts(pod(containers=[])) == ["spec.containers: Required value"]


def test_names_of_containers_are_unique_over_init_and_regular_ones() -> None:
    twice = pod()
    twice["spec"]["initContainers"] = [copy.deepcopy(twice["spec"]["containers"][0])]
    assert texts(twice) == ['spec.initContainers[0].name: Duplicate value: "c"']


def test_requests_above_limits_are_refused() -> None:
    resources = {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}
    assert texts(with_container(resources=resources)) == [
        'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1'
    ]


def test_a_mount_of_an_unknown_volume_is_not_found() -> None:
    mounts = [{"name": "gone", "mountPath": "/x"}]
    assert texts(with_container(volumeMounts=mounts)) == ['spec.containers[0].volumeMounts[0].name: Not found: "gone"']


def test_a_sub_path_may_not_climb() -> None:
    out = with_container(volumeMounts=[{"name": "v", "mountPath": "/x", "subPath": "../up"}])
    out["spec"]["volumes"] = [{"name": "v", "emptyDir": {}}]
    assert texts(out) == ["spec.containers[0].volumeMounts.subPath: Invalid value: \"../up\": must not contain '..'"]


def test_cve_2024_10220_a_git_repo_volume_is_refused() -> None:
    (text,) = texts(pod(volumes=[{"name": "v", "gitRepo": {"repository": "https://example.com/x"}}]))
    assert text.startswith("spec.volumes[0].gitRepo: Forbidden")


def test_cve_2024_3177_env_from_is_checked_in_every_sort_of_container() -> None:
    bad = {"envFrom": [{"secretRef": {"name": ""}}]}
    out = with_container(**bad)
    out["spec"]["initContainers"] = [{**out["spec"]["containers"][0], **bad, "name": "i"}]
    assert texts(out) == [
        "spec.containers[0].envFrom[0].secretRef.name: Required value",
        "spec.initContainers[0].envFrom[0].secretRef.name: Required value",
    ]


def test_a_probe_on_a_plain_init_container_is_forbidden() -> None:
    out = pod()
    probe = {"exec": {"command": ["true"]}, "successThreshold": 1}
    out["spec"]["initContainers"] = [{**out["spec"]["containers"][0], "name": "i", "livenessProbe": probe}]
    assert texts(out) == [
        "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"
    ]
    out["spec"]["initContainers"][0]["restartPolicy"] = "Always"
    assert texts(out) == []


def test_an_update_may_change_an_image_and_nothing_else_of_a_container() -> None:
    old = pod()
    new = copy.deepcopy(old)
    new["spec"]["containers"][0]["image"] = "busybox:2"
    assert pods.check_update(new, old) == []
    new["spec"]["containers"][0]["command"] = ["sh"]
    (cause,) = pods.check_update(new, old)
    assert cause.field == "spec"
    assert cause.message.startswith("Forbidden: pod updates may not change fields other than `spec.containers[*].image`")


def test_a_toleration_may_be_added_but_not_taken_away() -> None:
    old = pod(tolerations=[{"key": "a", "operator": "Exists"}])
    added = pod(tolerations=[{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}])
    assert pods.check_update(added, old) == []
    assert [c.field for c in pods.check_update(pod(tolerations=[]), old)] == ["spec.tolerations"]


def test_an_ephemeral_container_may_be_added_but_not_changed() -> None:
    old = pod()
    one = {"name": "debug", "image": "busybox", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}
    new = pod(ephemeralContainers=[one])
    assert pods.check_ephemeral_update(new, old) == []
    changed = pod(ephemeralContainers=[{**one, "image": "other"}])
    (cause,) = pods.check_ephemeral_update(changed, new)
    assert "may not be changed" in cause.message
    assert [c.field for c in pods.check_pod(new)] == ["spec.ephemeralContainers"]
