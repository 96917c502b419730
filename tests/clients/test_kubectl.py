"""The stock kubectl: what it decides by the server's documents, and what it shows of custom kinds."""

import json
from typing import Any

import pytest

from tests.clients.conftest import Kubectl

pytestmark = pytest.mark.slow
GADGET = {"apiVersion": "kubectl.example.com/v1", "kind": "Gadget", "metadata": {"name": "g"}, "spec": {"size": 1, "tags": ["a"]}}


def test_a_custom_object_is_applied_again_and_again(kubectl: Kubectl, custom_kind: Any) -> None:
    tags = {"type": "array", "items": {"type": "string"}}
    custom_kind(
        "gadgets", "kubectl.example.com", "Gadget", {"type": "object", "properties": {"size": {"type": "integer"}, "tags": tags}}
    )
    assert kubectl("apply", "-f", "-", stdin=json.dumps(GADGET)) == "gadget.kubectl.example.com/g created\n"
    changed = {**GADGET, "spec": {"tags": ["b"]}}
    assert kubectl("apply", "-f", "-", stdin=json.dumps(changed)) == "gadget.kubectl.example.com/g configured\n"
    assert kubectl("apply", "-f", "-", stdin=json.dumps(changed)) == "gadget.kubectl.example.com/g unchanged\n"
    assert json.loads(kubectl("get", "gadget", "g", "-o", "json"))["spec"] == {"tags": ["b"]}


def test_server_side_apply_takes_over_what_was_applied_before(kubectl: Kubectl) -> None:
    def settings(**data: str) -> str:
        return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s"}, "data": data})

    kubectl("apply", "-f", "-", stdin=settings(a="1", b="1"))
    assert kubectl("apply", "--server-side", "-f", "-", stdin=settings(a="2")) == "configmap/s serverside-applied\n"
    assert json.loads(kubectl("get", "configmap", "s", "-o", "json"))["data"] == {"a": "2"}
    kubectl("patch", "configmap", "s", "--type=merge", "--field-manager=editor", "-p", '{"data":{"a":"3"}}')
    with pytest.raises(AssertionError, match='conflict with "editor"'):
        kubectl("apply", "--server-side", "-f", "-", stdin=settings(a="4"))


@pytest.mark.parametrize("form", ["plaintext", "plaintext-openapiv2"])
def test_a_custom_kind_named_like_a_built_in_one_is_explained_as_itself(kubectl: Kubectl, custom_kind: Any, form: str) -> None:
    color = {"type": "string", "description": "Which color it has."}
    custom_kind("services", "named.example.com", "Service", {"type": "object", "properties": {"color": color}})

    def explain(*words: str) -> str:
        return kubectl("explain", f"--output={form}", *words)

    custom = "--api-version=named.example.com/v1"
    assert "A Service of named.example.com." in explain("services", custom)
    assert "Which color it has." in explain("service.spec.color", custom)
    assert "clusterIP" in explain("services.spec")


def test_explain_tells_the_values_that_a_field_may_have(kubectl: Kubectl) -> None:
    assert "ENUM:\n    SCTP\n    TCP\n    UDP\n" in kubectl("explain", "service.spec.ports.protocol")
