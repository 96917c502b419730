"""What Accept and Content-Type headers mean."""

import orjson
import pytest

from kubelite.api.negotiation import Media, accepted, sent
from kubelite.meta.errors import ApiError, UnsupportedMediaType
from kubelite.schema import marshalling, protobuf, wire


def test_without_an_accept_header_the_answer_is_json():
    assert accepted("") == Media("json")


@pytest.mark.parametrize(
    "accept", ["application/vnd.kubernetes.protobuf, */*", "application/vnd.kubernetes.protobuf,application/json", "*/*"]
)
def test_who_accepts_protobuf_and_anything_else_gets_json(accept):
    assert accepted(accept) == Media("json")


def test_the_first_form_that_is_known_is_taken():
    kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
    assert accepted(kubectl) == Media("json", "Table", "meta.k8s.io", "v1")


def test_quality_orders_what_is_accepted():
    assert accepted("application/json;q=0.5, application/yaml;q=0.9").encoding == "yaml"


def test_a_type_refused_with_quality_zero_is_not_used():
    assert accepted("application/yaml;q=0, application/json").encoding == "json"


@pytest.mark.parametrize(
    "accept",
    [
        "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io",
        "text/html",
        "application/json;as=Table;v=v9;g=meta.k8s.io",
    ],
)
def test_what_is_not_served_is_not_acceptable(accept):
    with pytest.raises(ApiError) as e:
        accepted(accept)
    assert (e.value.code, e.value.reason) == (406, "NotAcceptable")


def test_discovery_forms_are_for_discovery_only():
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    assert accepted(accept, discovery=True).form == "APIGroupDiscoveryList"
    with pytest.raises(ApiError):
        accepted(accept)


@pytest.mark.parametrize(
    ("content_type", "media"),
    [
        ("", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ("application/x-yaml", "application/yaml"),
        ("application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf"),
    ],
)
def test_bodies_of_known_types_are_read(content_type, media):
    assert sent(content_type) == media


def test_bodies_of_other_types_are_refused():
    with pytest.raises(UnsupportedMediaType):
        sent("text/plain")


PROTOBUF = "application/vnd.kubernetes.protobuf"


async def test_who_takes_nothing_but_protobuf_gets_it(http, namespace):
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await http.post(path, {"metadata": {"name": "a"}, "binaryData": {"b": "AAH/"}})
    answer = await http.get(f"{path}/a", Accept=PROTOBUF)
    assert (answer.status, answer.headers["Content-Type"]) == (200, PROTOBUF)
    read = protobuf.decode(answer.body)
    assert read == (await http.get(f"{path}/a")).json
    sent = {**read, "data": {"k": "v"}}
    changed = await http("PUT", f"{path}/a", marshalling.encode(sent), Content_Type=PROTOBUF, Accept=PROTOBUF)
    assert (changed.status, protobuf.decode(changed.body)["data"]) == (200, {"k": "v"})
    listed = await http.get(f"{path}?fieldSelector=metadata.name%3Da", Accept=PROTOBUF)
    assert (listed.status, listed.headers["Content-Type"]) == (200, PROTOBUF)
    assert changed.body[changed.body.index(b"\x0a\x01a") :][:40] in listed.body
    missing = await http.get(f"{path}/none", Accept=PROTOBUF)
    assert (missing.status, protobuf.decode(missing.body)["reason"]) == (404, "NotFound")
    deleted = await http("DELETE", f"{path}/a", Accept=PROTOBUF)
    assert protobuf.decode(deleted.body)["status"] == "Success"


async def test_custom_kinds_have_no_protobuf_but_their_metadata_has(http):
    plain = {"metadata": {"name": "things.binary.example.com"}}
    schema = {"openAPIV3Schema": {"type": "object"}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    names = {"plural": "things", "kind": "Thing"}
    spec = {"group": "binary.example.com", "scope": "Cluster", "names": names, "versions": [version]}
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert (await http.post(definitions, {**plain, "spec": spec})).status == 201
    path = "/apis/binary.example.com/v1/things"
    thing = {"apiVersion": "binary.example.com/v1", "kind": "Thing", "metadata": {"name": "t"}}
    assert (await http.post(path, thing)).status == 201
    refused = await http.get(path, Accept=PROTOBUF)
    assert refused.status == 406
    assert protobuf.decode(refused.body)["message"].endswith("accepted: application/json, application/yaml")
    partial = await http.get(f"{path}/t", Accept=f"{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
    assert partial.status == 200
    assert b"PartialObjectMetadata" in partial.body and b"\x0a\x01t" in partial.body
    await http("DELETE", f"{definitions}/things.binary.example.com")


@pytest.mark.parametrize("form", ["", "as=PartialObjectMetadata;g=meta.k8s.io;v=v1", "as=Table;g=meta.k8s.io;v=v1"])
async def test_a_watch_tells_in_every_form_that_the_initial_objects_were_all(http, namespace, form):
    """Metadata informers want the bookmark as much as others."""
    query = "watch=1&timeoutSeconds=20&allowWatchBookmarks=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    url = f"{http.server}/api/v1/namespaces/{namespace}/serviceaccounts?{query}"
    async with http.session.get(url, headers={"Accept": f"application/json;{form}"}) as stream:
        assert stream.headers["Content-Type"] == "application/json"
        added, bookmark = [orjson.loads(await stream.content.readline()) for _ in range(2)]
    assert (added["type"], bookmark["type"]) == ("ADDED", "BOOKMARK")
    assert b"k8s.io/initial-events-end" in orjson.dumps(bookmark["object"])


async def test_a_watch_in_protobuf_is_a_row_of_messages_with_their_lengths(http, namespace):
    query = "watch=1&timeoutSeconds=20&allowWatchBookmarks=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    url = f"{http.server}/api/v1/namespaces/{namespace}/serviceaccounts?{query}"
    async with http.session.get(url, headers={"Accept": PROTOBUF}) as stream:
        assert stream.headers["Content-Type"] == f"{PROTOBUF};stream=watch"
        events = []
        for _ in range(2):
            length = int.from_bytes(await stream.content.readexactly(4), "big")
            event = dict(wire.fields(await stream.content.readexactly(length)))
            events.append((event[1], protobuf.decode(dict(wire.fields(event[2]))[1])))
    (first, account), (second, bookmark) = events
    assert (first, account["kind"], account["metadata"]["name"]) == (b"ADDED", "ServiceAccount", "default")
    assert (second, bookmark["metadata"]["annotations"]) == (b"BOOKMARK", {"k8s.io/initial-events-end": "true"})
