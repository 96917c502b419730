"""Tables show what kubectl's users read first: states, counts and ages."""

from typing import Any

from kubelite.meta import times
from kubelite.schema import builtin, columns
from kubelite.schema.kinds import Kind

NOW = times.parse_seconds("2026-01-02T03:04:05Z")
CREATED = "2026-01-02T02:04:05Z"
KINDS = builtin.kinds()


def cells(resource: str, obj: dict[str, Any]) -> dict[str, Any]:
    kind = KINDS.preferred(resource)
    obj.setdefault("metadata", {"name": "x", "creationTimestamp": CREATED})
    return dict(zip((c.name for c in columns.columns_of(kind)), columns.cells(kind, obj, NOW), strict=True))


def pod(state: dict[str, Any], *, ready: bool = False, restarts: int = 0, **status: Any) -> dict[str, Any]:
    container = {"name": "c", "state": state, "ready": ready, "restartCount": restarts, "lastState": {}}
    return {
        "spec": {"containers": [{"name": "c"}], "nodeName": "n1"},
        "status": {"phase": "Running", "containerStatuses": [container], "podIPs": [{"ip": "10.0.0.1"}], **status},
    }


def test_every_kind_has_a_cell_for_each_column() -> None:
    for kind in KINDS:
        if "list" in kind.verbs:
            assert len(columns.cells(kind, {"metadata": {"name": "x"}}, NOW)) == len(columns.columns_of(kind)), kind.plural


def test_a_running_pod_shows_node_and_address() -> None:
    row = cells("pods", pod({"running": {}}, ready=True))
    assert (row["Ready"], row["Status"], row["Restarts"], row["Age"]) == ("1/1", "Running", "0", "60m")
    assert (row["IP"], row["Node"], row["Readiness Gates"]) == ("10.0.0.1", "n1", "<none>")


def test_a_waiting_containers_reason_is_the_pods_status() -> None:
    assert cells("pods", pod({"waiting": {"reason": "CrashLoopBackOff"}}, restarts=3))["Status"] == "CrashLoopBackOff"


def test_a_restart_says_how_long_ago() -> None:
    obj = pod({"running": {}}, ready=True, restarts=2)
    obj["status"]["containerStatuses"][0]["lastState"] = {"terminated": {"finishedAt": "2026-01-02T03:03:05Z"}}
    assert cells("pods", obj)["Restarts"] == "2 (60s ago)"


def test_a_failed_init_container_shows_as_init_error() -> None:
    obj = pod({"waiting": {"reason": "PodInitializing"}}, phase="Pending")
    obj["spec"]["initContainers"] = [{"name": "i"}]
    state = {"terminated": {"exitCode": 1, "reason": "Error"}}
    obj["status"]["initContainerStatuses"] = [{"name": "i", "state": state, "restartCount": 1}]
    assert cells("pods", obj)["Status"] == "Init:Error"


def test_a_deleted_pod_is_terminating() -> None:
    obj = pod({"running": {}}, ready=True)
    obj["metadata"] = {"name": "x", "creationTimestamp": CREATED, "deletionTimestamp": CREATED}
    assert cells("pods", obj)["Status"] == "Terminating"


def test_a_cordoned_node_says_so() -> None:
    obj = {"spec": {"unschedulable": True}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert cells("nodes", obj)["Status"] == "Ready,SchedulingDisabled"


def test_a_node_port_stands_behind_its_port() -> None:
    ports = [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]
    row = cells("services", {"spec": {"type": "NodePort", "clusterIPs": ["10.96.0.9"], "ports": ports}})
    assert row["Port(s)"] == "80:30080/TCP,53/UDP"


def test_long_lists_are_cut_and_counted() -> None:
    addresses = [{"ip": f"10.0.0.{i}"} for i in range(5)]
    row = cells("endpoints", {"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]})
    assert row["Endpoints"] == "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more..."


def test_flow_schemas_come_in_the_order_in_which_they_are_asked() -> None:
    kind = KINDS.preferred("flowschemas.flowcontrol.apiserver.k8s.io")
    found = [("a", 900), ("b", 100), ("d", 500), ("c", 500)]
    items = [{"metadata": {"name": name}, "spec": {"matchingPrecedence": at}} for name, at in found]
    assert [obj["metadata"]["name"] for obj in columns.ordered(kind, items)] == ["b", "c", "d", "a"]


def test_a_custom_kind_has_its_declared_columns() -> None:
    declared = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Since", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    version = {"name": "v1", "additionalPrinterColumns": declared}
    kind = Kind("example.com", "v1", "Thing", "things", "thing", True, custom=True, crd_version=version)
    obj = {
        "metadata": {"name": "x", "creationTimestamp": CREATED},
        "spec": {"size": 3},
        "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]},
    }
    assert [c.name for c in columns.columns_of(kind)] == ["Name", "Size", "Ready", "Since"]
    assert columns.cells(kind, obj, NOW) == ["x", 3, "True", "60m"]


def test_a_custom_kind_without_columns_has_its_name_and_age() -> None:
    kind = Kind("example.com", "v1", "Thing", "things", "thing", True, custom=True, crd_version={"name": "v1"})
    assert [c.name for c in columns.columns_of(kind)] == ["Name", "Age"]
    assert columns.cells(kind, {"metadata": {"name": "x", "creationTimestamp": CREATED}}, NOW) == ["x", "60m"]


def test_columns_of_a_custom_kind_show_the_first_value_that_is_found() -> None:
    paths = {
        "All": ".spec.sizes[*]",
        "Label": r".metadata.labels.a\.b/c",
        "None": ".spec.none",
        "Null": ".spec.null",
        "Map": ".spec.map",
        "Whole": ".spec.whole",
        "No list": ".spec[0]",
        "No path": ".spec[a]",
        "After it": ".spec.map",
    }
    declared = [{"name": name, "type": "string", "jsonPath": path} for name, path in paths.items()]
    version = {"name": "v1", "additionalPrinterColumns": declared}
    kind = Kind("example.com", "v1", "Thing", "things", "thing", True, custom=True, crd_version=version)
    obj = {
        "metadata": {"name": "x", "labels": {"a.b/c": "d"}},
        "spec": {"sizes": [2, 1], "null": None, "map": {"k": [1.5]}, "whole": 3.0},
    }
    assert columns.cells(kind, obj, NOW) == ["x", "2", "d", None, "<no value>", '{"k":[1.5]}', "3", None]
    assert columns.columns_of(kind)[1].description == "Custom resource definition column (in JSONPath format): .spec.sizes[*]"
    assert [c.name for c in columns.columns_of(kind)] == ["Name", *list(paths)[:-2]]
