from typing import Any

import pytest

from kubelite.meta.errors import BadRequest
from kubelite.schema import builtin, decoding, facts, protobuf


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    return b"k8s\0" + field(1, field(1, api_version) + field(2, kind)) + field(2, raw) + field(3, "") + field(4, "")


def number(name: str, wanted: str) -> int:
    return next(found.number for found in facts.fields(name) if found.name == wanted)


def test_a_config_map_reads_as_its_json_would() -> None:
    metadata = field(1, "a") + field(2, "") + field(3, "ns") + field(8, b"") + field(7, 0)
    metadata += field(11, field(1, "app") + field(2, "web")) + field(11, field(1, "x") + field(2, ""))
    raw = field(1, metadata) + field(2, field(1, "k") + field(2, "v")) + field(3, field(1, "b") + field(2, b"\0\1")) + field(4, 0)
    assert decoding.parse(envelope("v1", "ConfigMap", raw), decoding.PROTOBUF) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "ns", "labels": {"app": "web", "x": ""}},
        "data": {"k": "v"},
        "binaryData": {"b": "AAE="},
        "immutable": False,
    }


def test_inline_fields_quantities_and_ports_get_their_json_form() -> None:
    secret = field(number("core.v1.VolumeSource", "secret"), field(1, "s"))
    volume = field(1, "v") + field(2, secret)
    limits = field(1, field(1, "cpu") + field(2, field(1, "100m")))
    probe = field(
        1, field(2, field(1, "/") + field(2, field(1, 1) + field(2, 0) + field(3, "http")) + field(3, "") + field(4, ""))
    )
    container = field(1, "c") + field(2, "img") + field(8, limits) + field(10, probe) + field(3, "") + field(16, 0)
    spec = field(1, volume) + field(2, container) + field(4, 0) + field(25, -1) + field(11, 0)
    pod = protobuf.decode(envelope("v1", "Pod", field(1, field(1, "p")) + field(2, spec) + field(3, b"")))
    assert pod["spec"] == {
        "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
        "containers": [
            {
                "name": "c",
                "image": "img",
                "resources": {"limits": {"cpu": "100m"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "http"}},
                "command": [""],
            }
        ],
        "terminationGracePeriodSeconds": 0,
        "priority": -1,
    }


def test_times_are_texts_and_absent_ones_are_not_there() -> None:
    lease_spec = field(4, field(1, 1_767_225_600) + field(2, 5_000)) + field(2, 30)
    lease = protobuf.decode(envelope("coordination.k8s.io/v1", "Lease", field(1, field(8, b"")) + field(2, lease_spec)))
    assert lease["spec"] == {"renewTime": "2026-01-01T00:00:00.000005Z", "leaseDurationSeconds": 30}
    assert lease["metadata"] == {}


def test_delete_options_and_bodies_of_subresources_can_be_read() -> None:
    options = protobuf.decode(envelope("apps/v1", "DeleteOptions", field(1, 0) + field(4, "Foreground")))
    assert options == {
        "apiVersion": "apps/v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Foreground",
    }
    eviction = protobuf.decode(envelope("policy/v1beta1", "Eviction", field(1, field(1, "p"))))
    assert eviction["metadata"] == {"name": "p"}


def test_lists_wrapped_in_messages_are_lists() -> None:
    extra = field(1, "scopes") + field(2, field(1, "a") + field(1, "b"))
    review = protobuf.decode(
        envelope("authorization.k8s.io/v1", "SubjectAccessReview", field(2, field(5, extra) + field(3, "u")))
    )
    assert review["spec"]["extra"] == {"scopes": ["a", "b"]}


def test_raw_json_within_a_message_is_parsed() -> None:
    entry = field(7, field(1, b'{"f:data":{}}')) + field(1, "m")
    config_map = protobuf.decode(envelope("v1", "ConfigMap", field(1, field(17, entry))))
    assert config_map["metadata"]["managedFields"] == [{"fieldsV1": {"f:data": {}}, "manager": "m"}]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"k8s\0",
        b"{}",
        envelope("v1", "Nothing", b""),
        envelope("v1", "Pod", b"\x0a\xff"),
        envelope("v1", "Pod", b"\x0b"),
        envelope("v1", "Pod", field(1, field(1, "x"))[:-1]),
        b"k8s\0" + b"\xff" * 20,
    ],
)
def test_what_is_no_message_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        protobuf.decode(body)


def test_deep_messages_are_refused() -> None:
    schema = b""
    for _ in range(300):
        schema = field(number("apiextensions.v1.JSONSchemaProps", "not"), schema)
    version = field(1, "v1") + field(4, field(1, schema))
    body = envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", field(2, field(7, version)))
    with pytest.raises(BadRequest, match="max depth"):
        protobuf.decode(body)


def test_deep_json_within_a_message_is_refused() -> None:
    raw = b'{"a":' * 300 + b"1" + b"}" * 300
    revision = field(2, field(1, raw))
    with pytest.raises(BadRequest, match="max depth"):
        protobuf.decode(envelope("apps/v1", "ControllerRevision", revision))


def test_every_built_in_kind_has_its_messages() -> None:
    rows: list[Any] = list(builtin.kinds())
    assert all(protobuf.type_of(kind.api_version, kind.kind) for kind in rows)
