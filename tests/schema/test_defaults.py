from typing import Any

import pytest

from kubelite.meta import copies
from kubelite.meta.errors import BadRequest
from kubelite.schema import builtin, defaults, podspecs
from kubelite.schema.kinds import Kind

KINDS = builtin.kinds()


def complete(resource: str, obj: dict[str, Any]) -> dict[str, Any]:
    owned = copies.deep_copy(obj)
    defaults.apply(KINDS.preferred(resource), owned)
    again = copies.deep_copy(owned)
    defaults.apply(KINDS.preferred(resource), again)
    assert again == owned, "defaulting twice changes nothing more"
    return owned


TEMPLATE = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}
TEMPLATE_SPEC = {
    "containers": [
        {
            "name": "c",
            "image": "nginx",
            "resources": {},
            "imagePullPolicy": "Always",
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        }
    ],
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
}


def test_a_pod_gets_what_every_pod_has() -> None:
    pod = complete("pods", {"spec": TEMPLATE["spec"]})
    assert pod["spec"] == {**TEMPLATE_SPEC, "enableServiceLinks": True}
    assert pod["metadata"] == {} and pod["status"] == {}


def test_every_kind_takes_an_empty_object() -> None:
    for kind in KINDS:
        complete(kind.group_resource, {"apiVersion": kind.api_version, "kind": kind.kind})


def test_requests_follow_limits_in_pods_and_not_in_templates() -> None:
    container = {"name": "c", "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}, "requests": {"cpu": "0.0001"}}}
    pod = complete("pods", {"spec": {"containers": [container]}})
    assert pod["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "500m", "memory": "1Gi"},
        "requests": {"cpu": "1m", "memory": "1Gi"},
    }
    deployment = complete("deployments.apps", {"spec": {"template": {"spec": {"containers": [container]}}}})
    resources = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources["requests"] == {"cpu": "1m"}


def test_pod_level_requests_come_from_containers_and_then_from_limits() -> None:
    containers = [
        {"name": "a", "resources": {"requests": {"cpu": "100m"}}},
        {"name": "b", "resources": {"requests": {"cpu": "1"}}},
    ]
    init = [{"name": "i", "resources": {"requests": {"cpu": "1500m"}}}]
    spec = {"resources": {"limits": {"cpu": "2", "memory": "1Gi"}}, "containers": containers, "initContainers": init}
    pod = complete("pods", {"spec": spec})
    assert pod["spec"]["resources"]["requests"] == {"cpu": "1500m", "memory": "1Gi"}


def test_host_network_makes_container_ports_host_ports() -> None:
    pod = complete("pods", {"spec": {"hostNetwork": True, "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}})
    assert pod["spec"]["containers"][0]["ports"] == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("repo:5000/a/nginx", "Always"),
        ("nginx:1.2", "IfNotPresent"),
        ("nginx@sha256:" + "a" * 64, "IfNotPresent"),
        ("nginx:latest@sha256:" + "a" * 64, "Always"),
        ("", "IfNotPresent"),
        ("UPPER", "IfNotPresent"),
    ],
)
def test_images_are_pulled_always_only_without_a_version(image: str, policy: str) -> None:
    assert podspecs.pull_policy(image) == policy


def test_probes_volumes_and_references_are_completed() -> None:
    container = {
        "name": "c",
        "livenessProbe": {"httpGet": {"port": 80}, "timeoutSeconds": 0},
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    }
    volumes = [
        {"name": "a"},
        {"name": "b", "secret": {}},
        {"name": "c", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
    ]
    spec = complete("pods", {"spec": {"containers": [container], "volumes": volumes}})["spec"]
    assert spec["containers"][0]["livenessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert spec["containers"][0]["env"][0]["valueFrom"]["fieldRef"] == {"fieldPath": "metadata.name", "apiVersion": "v1"}
    token = {"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}
    assert spec["volumes"] == [
        {"name": "a", "emptyDir": {}},
        {"name": "b", "secret": {"defaultMode": 420}},
        {"name": "c", "projected": {"sources": [token], "defaultMode": 420}},
    ]


def test_workloads_get_their_strategies() -> None:
    deployment = complete("deployments.apps", {"spec": {"template": TEMPLATE}})["spec"]
    assert deployment.pop("template")["spec"] == TEMPLATE_SPEC
    assert (
        deployment
        == {
            "replicas": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
        }
        or deployment.pop("selector", None) is None
    )
    daemon_set = complete("daemonsets.apps", {"spec": {"template": TEMPLATE}})["spec"]
    assert daemon_set["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    stateful_set = complete("statefulsets.apps", {"spec": {"template": TEMPLATE, "volumeClaimTemplates": [{"spec": {}}]}})["spec"]
    assert stateful_set["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    claim = stateful_set["volumeClaimTemplates"][0]
    assert (claim["kind"], claim["spec"]["volumeMode"], claim["status"]) == (
        "PersistentVolumeClaim",
        "Filesystem",
        {"phase": "Pending"},
    )


def test_zero_replicas_are_not_defaulted_away() -> None:
    assert complete("replicasets.apps", {"spec": {"replicas": 0}})["spec"]["replicas"] == 0


def test_jobs_run_once_unless_they_say_more() -> None:
    job = complete("jobs.batch", {"spec": {"template": TEMPLATE}})
    assert (job["spec"]["completions"], job["spec"]["parallelism"], job["spec"]["backoffLimit"]) == (1, 1, 6)
    assert job["metadata"]["labels"] == {"app": "x"}
    parallel = complete("jobs.batch", {"spec": {"parallelism": 3, "template": TEMPLATE}})["spec"]
    assert "completions" not in parallel


def test_services_get_ports_and_policies() -> None:
    service = complete("services", {"spec": {"type": "NodePort", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]}})["spec"]
    assert service == {
        "type": "NodePort",
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "externalTrafficPolicy": "Cluster",
        "internalTrafficPolicy": "Cluster",
    }


def test_texts_of_a_secret_become_data() -> None:
    secret = complete("secrets", {"stringData": {"a": "b"}, "data": {"a": "eA==", "c": "ZA=="}})
    assert secret["data"] == {"a": "Yg==", "c": "ZA=="}
    assert secret["type"] == "Opaque" and "stringData" not in secret


def test_custom_schemas_give_their_defaults_down_to_list_items() -> None:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "default": {},
                "properties": {
                    "a": {"type": "integer", "default": 3},
                    "n": {"type": "string", "nullable": True, "default": "x"},
                    "m": {"type": "string"},
                    "l": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string", "default": "q"}}}},
                    "d": {"type": "object", "additionalProperties": {"type": "object", "properties": {"y": {"default": [1]}}}},
                },
            }
        },
    }
    kind = Kind("x.io", "v1", "Thing", "things", "thing", True, custom=True, crd_version={"schema": {"openAPIV3Schema": schema}})
    obj: dict[str, Any] = {"metadata": {"name": "t", "labels": {}, "creationTimestamp": None}}
    defaults.apply(kind, obj)
    assert obj == {"metadata": {"name": "t"}, "spec": {"a": 3, "n": "x"}}
    obj = {"metadata": {"name": "t"}, "spec": {"a": None, "n": None, "m": None, "l": [{}, {"x": "z"}], "d": {"k": {}}}}
    defaults.apply(kind, obj)
    assert obj["spec"] == {"a": 3, "n": None, "l": [{"x": "q"}, {"x": "z"}], "d": {"k": {"y": [1]}}}
    obj["spec"]["d"]["k"]["y"].append(2)
    fresh: dict[str, Any] = {"metadata": {}, "spec": {"d": {"k": {}}}}
    defaults.apply(kind, fresh)
    assert fresh["spec"]["d"]["k"]["y"] == [1], "a default is not shared between objects"


def test_a_wrong_type_in_a_custom_objects_metadata_is_refused() -> None:
    kind = Kind("x.io", "v1", "Thing", "things", "thing", True, custom=True, crd_version={})
    with pytest.raises(BadRequest):
        defaults.apply(kind, {"metadata": {"labels": {"a": 1}}})
