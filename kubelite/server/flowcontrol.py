"""The flow schemas and priority levels that every server starts with.

Source: apiserver pkg/apis/flowcontrol/bootstrap/default.go, v0.34.
"""

from typing import Any

from kubelite.meta.types import Obj

_API_VERSION = "flowcontrol.apiserver.k8s.io/v1"
_ANNOTATION = "apf.kubernetes.io/autoupdate-spec"
_ALL = ("group", "system:unauthenticated"), ("group", "system:authenticated")

#: name: (shares, lendable percent, queues, hand size). Queues 0: rejects instead of queueing; shares None: exempt.
_LEVELS: dict[str, tuple[int | None, int, int, int]] = {
    "exempt": (None, 0, 0, 0),
    "catch-all": (5, 0, 0, 0),
    "system": (30, 33, 64, 6),
    "node-high": (40, 25, 64, 6),
    "leader-election": (10, 0, 16, 4),
    "workload-high": (40, 50, 128, 6),
    "workload-low": (100, 90, 128, 6),
    "global-default": (20, 50, 128, 6),
}

_EVERYTHING = [(["*"], ["*"], ["*"], True)]
_ANY_PATH = [(["*"], ["*"])]
_ACCOUNTS = ("account", "kube-system")

#: name, level, precedence, distinguisher, subjects, resource rules (verbs, groups, resources, cluster-wide), path rules.
_SCHEMAS: tuple[tuple[str, str, int, str, tuple[tuple[str, str], ...], list[Any], list[Any]], ...] = (
    ("exempt", "exempt", 1, "", (("group", "system:masters"),), _EVERYTHING, _ANY_PATH),
    ("probes", "exempt", 2, "", _ALL, [], [(["get"], ["/healthz", "/readyz", "/livez"])]),
    (
        "system-leader-election",
        "leader-election",
        100,
        "ByUser",
        (("user", "system:kube-controller-manager"), ("user", "system:kube-scheduler"), _ACCOUNTS),
        [(["get", "create", "update"], ["coordination.k8s.io"], ["leases"], False)],
        [],
    ),
    (
        "system-node-high",
        "node-high",
        400,
        "ByUser",
        (("group", "system:nodes"),),
        [(["*"], [""], ["nodes", "nodes/status"], True), (["*"], ["coordination.k8s.io"], ["leases"], False)],
        [],
    ),
    ("system-nodes", "system", 500, "ByUser", (("group", "system:nodes"),), _EVERYTHING, _ANY_PATH),
    (
        "kube-controller-manager",
        "workload-high",
        800,
        "ByNamespace",
        (("user", "system:kube-controller-manager"),),
        _EVERYTHING,
        _ANY_PATH,
    ),
    ("kube-scheduler", "workload-high", 800, "ByNamespace", (("user", "system:kube-scheduler"),), _EVERYTHING, _ANY_PATH),
    ("kube-system-service-accounts", "workload-high", 900, "ByNamespace", (_ACCOUNTS,), _EVERYTHING, _ANY_PATH),
    ("service-accounts", "workload-low", 9000, "ByUser", (("group", "system:serviceaccounts"),), _EVERYTHING, _ANY_PATH),
    ("global-default", "global-default", 9900, "ByUser", _ALL, _EVERYTHING, _ANY_PATH),
    ("catch-all", "catch-all", 10000, "ByUser", _ALL, _EVERYTHING, _ANY_PATH),
)


def priority_levels() -> list[Obj]:
    objects = []
    for name, (shares, lendable, queues, hand) in _LEVELS.items():
        spec: Obj
        if shares is None:
            spec = {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}
        else:
            response: Obj = {"type": "Reject"}
            if queues:
                response = {"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}}
            limited = {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}
            spec = {"type": "Limited", "limited": limited}
        objects.append(_object("PriorityLevelConfiguration", name, spec))
    return objects


def flow_schemas() -> list[Obj]:
    objects = []
    for name, level, precedence, distinguisher, subjects, resources, paths in _SCHEMAS:
        rule: Obj = {"subjects": [_subject(kind, value) for kind, value in subjects]}
        if resources:
            rule["resourceRules"] = [
                {"verbs": verbs, "apiGroups": groups, "resources": names, "namespaces": ["*"]}
                | ({"clusterScope": True} if cluster_wide else {})
                for verbs, groups, names, cluster_wide in resources
            ]
        if paths:
            rule["nonResourceRules"] = [{"verbs": verbs, "nonResourceURLs": urls} for verbs, urls in paths]
        spec: Obj = {
            "priorityLevelConfiguration": {"name": level},
            "matchingPrecedence": precedence,
            "rules": [rule],
        }
        if distinguisher:
            spec["distinguisherMethod"] = {"type": distinguisher}
        objects.append(_object("FlowSchema", name, spec))
    return objects


def _subject(kind: str, value: str) -> Obj:
    if kind == "user":
        return {"kind": "User", "user": {"name": value}}
    if kind == "group":
        return {"kind": "Group", "group": {"name": value}}
    return {"kind": "ServiceAccount", "serviceAccount": {"namespace": value, "name": "*"}}


def _object(kind: str, name: str, spec: Obj) -> Obj:
    return {
        "apiVersion": _API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "annotations": {_ANNOTATION: "true"}},
        "spec": spec,
    }
