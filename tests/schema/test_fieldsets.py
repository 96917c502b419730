"""Tests for sets of fields."""

import orjson

from kubelite.schema import fieldsets


def test_the_order_is_that_of_names_and_values() -> None:
    port = 'k:{{"containerPort":{},"protocol":"{}"}}'.format
    fields: fieldsets.FieldSet = {
        "f:spec": {
            "f:ports": {port(80, "TCP"): {"f:name": {}, ".": {}}, ".": {}, port(9, "UDP"): {}, port(9, "TCP"): {}},
            "f:_": {},
            "f:B": {},
            "f:a.b": {},
            "f:a-b": {},
        },
        "f:metadata": {"f:finalizers": {'v:"z"': {}, 'v:"a"': {}}, "f:rest": {"v:true": {}, 'v:"x"': {}, "v:10": {}, "v:9": {}}},
        "f:list": {"i:10": {}, "i:9": {}},
    }
    assert orjson.dumps(fieldsets.ordered(fields)) == orjson.dumps(
        {
            "f:list": {"i:9": {}, "i:10": {}},
            "f:metadata": {
                "f:finalizers": {'v:"a"': {}, 'v:"z"': {}},
                "f:rest": {"v:9": {}, "v:10": {}, 'v:"x"': {}, "v:true": {}},
            },
            "f:spec": {
                "f:B": {},
                "f:_": {},
                "f:a-b": {},
                "f:a.b": {},
                "f:ports": {".": {}, port(9, "TCP"): {}, port(9, "UDP"): {}, port(80, "TCP"): {".": {}, "f:name": {}}},
            },
        }
    )
    assert fieldsets.ordered({}) == {}
