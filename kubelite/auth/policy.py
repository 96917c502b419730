"""The roles and bindings that every cluster starts with.

The facts are a table (policy.txt, of Kubernetes 1.34); this module turns its lines into objects. Who reconciles them at
start creates what is missing and adds missing rules and subjects, but leaves alone what an administrator opted out by the
annotation rbac.authorization.kubernetes.io/autoupdate=false.
"""

from importlib import resources

from kubelite.meta.types import Obj

API_GROUP = "rbac.authorization.k8s.io"
API_VERSION = f"{API_GROUP}/v1"
AUTO_UPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_AGGREGATE = f"{API_GROUP}/aggregate-to-"


def bootstrap_objects() -> list[Obj]:
    """ClusterRoles, Roles, ClusterRoleBindings and RoleBindings, in this order. Roles that aggregate others come with the
    rules that the others have, so that they count before the aggregating controller ran."""
    objects: list[Obj] = []
    text = resources.files("kubelite.auth").joinpath("policy.txt").read_text()
    for line in text.splitlines():
        if line.startswith("  "):
            objects[-1]["rules"].append(_rule(line.split()))
        elif line and not line.startswith("#"):
            objects.append(_object(line.split()))
    _aggregate({obj["metadata"]["name"]: obj for obj in objects if obj["kind"] == "ClusterRole"})
    return objects


def reconciled(wanted: Obj, found: Obj) -> Obj | None:
    """What to write so that `found` has at least what `wanted` has; None when nothing is missing or it opted out.

    A binding whose role differs can't be changed and is left as it is. Source: component-helpers auth/rbac/reconciliation.
    """
    if (found["metadata"].get("annotations") or {}).get(AUTO_UPDATE) == "false":
        return None
    changed = dict(found)
    for field in ("rules", "subjects"):
        if field == "rules" and wanted.get("aggregationRule"):
            continue
        missing = [item for item in wanted.get(field) or () if item not in (found.get(field) or ())]
        if missing:
            changed[field] = [*(found.get(field) or ()), *missing]
    labels = (wanted["metadata"].get("labels") or {}) | (found["metadata"].get("labels") or {})
    if labels != (found["metadata"].get("labels") or {}):
        changed["metadata"] = found["metadata"] | {"labels": labels}
    if wanted.get("aggregationRule") and not found.get("aggregationRule"):
        changed["aggregationRule"] = wanted["aggregationRule"]
    return None if changed == found else changed


def _object(words: list[str]) -> Obj:
    match words[0]:
        case "clusterrole":
            obj = _new("ClusterRole", words[1])
            for option in words[2:]:
                name, _, value = option.partition("=")
                if name == "to":
                    obj["metadata"]["labels"] |= {_AGGREGATE + role: "true" for role in value.split(",")}
                else:
                    obj["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {_AGGREGATE + value: "true"}}]}
            obj["rules"] = []
        case "role":
            obj = _new("Role", words[2], words[1])
            obj["rules"] = []
        case "clusterbinding":
            obj = _new("ClusterRoleBinding", words[1])
            obj["roleRef"] = {"apiGroup": API_GROUP, "kind": "ClusterRole", "name": words[2]}
            if len(words) > 3:
                obj["subjects"] = [_subject(word) for word in words[3:]]
        case "binding":
            obj = _new("RoleBinding", words[2], words[1])
            obj["roleRef"] = {"apiGroup": API_GROUP, "kind": "Role", "name": words[3]}
            obj["subjects"] = [_subject(word) for word in words[4:]]
        case other:
            raise ValueError(f"policy.txt: {other!r} is no kind of line")
    return obj


def _new(kind: str, name: str, namespace: str = "") -> Obj:
    metadata: Obj = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    metadata |= {"labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}, "annotations": {AUTO_UPDATE: "true"}}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata}


def _rule(words: list[str]) -> Obj:
    verbs = words[0].split(",")
    if len(words) == 2:
        return {"verbs": verbs, "nonResourceURLs": words[1].split(",")}
    groups = ["" if group == "core" else group for group in words[1].split(",")]
    rule: Obj = {"verbs": verbs, "apiGroups": groups, "resources": words[2].split(",")}
    if len(words) == 4:
        rule["resourceNames"] = words[3].split(",")
    return rule


def _subject(word: str) -> Obj:
    kind, _, name = word.partition(":")
    if kind == "account":
        namespace, _, name = name.partition("/")
        return {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    return {"apiGroup": API_GROUP, "kind": kind.capitalize(), "name": name}


def _aggregate(roles: dict[str, Obj]) -> None:
    """Fills the rules of aggregating roles; view is part of edit and edit of admin, so in that order."""
    for name in ("view", "edit", "admin"):
        labels = roles[name]["aggregationRule"]["clusterRoleSelectors"][0]["matchLabels"].items()
        rules: list[Obj] = []
        for part in sorted(roles):
            if part != name and labels <= roles[part]["metadata"]["labels"].items():
                rules += (rule for rule in roles[part]["rules"] if rule not in rules)
        roles[name]["rules"] = rules
