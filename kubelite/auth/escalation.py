"""Nobody grants more than they have: checks on writes of roles and bindings.

Shaped as an admission plugin (`handles`, `validate`), which the composition root puts into the chain: who writes a role
must hold its rules or may `escalate` it, who writes a binding must hold the role's rules or may `bind` it.

Source: pkg/registry/rbac/{role,rolebinding,clusterrole,clusterrolebinding}/policybased/storage.go.
"""

from kubelite.auth import rules
from kubelite.auth.contract import Access, Authorizer
from kubelite.auth.rbac import GROUP, Rbac
from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.meta.users import MASTERS_GROUP, User
from kubelite.registry.contract import Attributes
from kubelite.schema.kinds import Kind

_ROLES = frozenset({f"roles.{GROUP}", f"clusterroles.{GROUP}"})
_BINDINGS = frozenset({f"rolebindings.{GROUP}", f"clusterrolebindings.{GROUP}"})
_FULL = rules.Rule(("*",), ("*",), ("*",)), rules.Rule(("*",), paths=("*",))


class EscalationCheck:
    """The plugin. `authorizer` answers for the verbs escalate and bind."""

    name = "RoleEscalation"

    def __init__(self, rbac: Rbac, authorizer: Authorizer) -> None:
        self._rbac = rbac
        self._authorizer = authorizer

    def handles(self, operation: str, kind: Kind, subresource: str) -> bool:
        return operation in ("CREATE", "UPDATE") and kind.group_resource in _ROLES | _BINDINGS

    async def validate(self, attributes: Attributes) -> None:
        obj, user = attributes.obj, attributes.user
        if obj is None or MASTERS_GROUP in user.groups or _only_metadata_differs(attributes.old, obj):
            return
        kind = attributes.target.kind
        if kind.group_resource in _ROLES:
            if self._may(user, "escalate", kind.plural, attributes):
                return
            wanted = rules.parse(obj.get("rules"))
            if obj.get("aggregationRule") and obj["aggregationRule"] != (attributes.old or {}).get("aggregationRule"):
                wanted = _FULL  # whoever writes a selector decides on rules that nobody checks again
        else:
            role = obj["roleRef"]
            namespace = attributes.target.namespace
            plural = "roles" if role["kind"] == "Role" else "clusterroles"
            access = Access(user, "bind", GROUP, "v1", plural, "", namespace, role["name"])
            if self._authorizer.authorize(access).allowed is True:
                return
            found = self._rbac.rules_of(role["kind"], role["name"], namespace)
            if found is None:
                # of the binding's kind, as Kubernetes has it
                raise errors.NotFound.of(GROUP, kind.plural, role["name"])
            wanted = found
        missing = rules.uncovered(self._rbac.rules_for(user, attributes.target.namespace), wanted)
        if missing:
            raise _refused(attributes, missing)

    def _may(self, user: User, verb: str, plural: str, attributes: Attributes) -> bool:
        target = attributes.target
        name = target.name or (attributes.obj or {})["metadata"].get("name", "")
        access = Access(user, verb, GROUP, "v1", plural, "", target.namespace, name)
        return self._authorizer.authorize(access).allowed is True


def _only_metadata_differs(old: Obj | None, new: Obj) -> bool:
    """The garbage collector and label editors change no rights."""
    return old is not None and {k: v for k, v in old.items() if k != "metadata"} == {
        k: v for k, v in new.items() if k != "metadata"
    }


def _refused(attributes: Attributes, missing: list[rules.Rule]) -> errors.Forbidden:
    target, user = attributes.target, attributes.user
    name = target.name or (attributes.obj or {})["metadata"].get("name", "")
    groups = " ".join(f'"{group}"' for group in user.groups)
    return errors.Forbidden(
        f'{target.kind.group_resource} "{name}" is forbidden: user "{user.name}" (groups=[{groups}]) is attempting to grant '
        f"RBAC permissions not currently held:\n{rules.format_rules(missing)}",
        group=target.kind.group,
        kind=target.kind.plural,
        name=name,
    )
