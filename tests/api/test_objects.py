"""The verbs over real HTTPS, from status codes to headers."""

import asyncio

import orjson
import pytest

PODS = "/api/v1/namespaces/{}/pods"
MAPS = "/api/v1/namespaces/{}/configmaps"


def config_map(name: str, **data: str) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def test_an_object_lives_from_post_to_delete(http, namespace):
    maps = MAPS.format(namespace)
    created = await http.post(maps, config_map("a", x="1"))
    assert created.status == 201
    assert created.json["metadata"]["namespace"] == namespace
    assert (await http.get(f"{maps}/a")).body == created.body
    changed = await http("PUT", f"{maps}/a", {**created.json, "data": {"x": "2"}})
    assert (changed.status, changed.json["data"]) == (200, {"x": "2"})
    patched = await http("PATCH", f"{maps}/a", b'{"data":{"y":"3"}}', Content_Type="application/merge-patch+json")
    assert patched.json["data"] == {"x": "2", "y": "3"}
    deleted = await http("DELETE", f"{maps}/a")
    assert (deleted.status, deleted.json["kind"], deleted.json["status"]) == (200, "Status", "Success")
    gone = await http.get(f"{maps}/a")
    assert (gone.status, gone.json["reason"], gone.json["message"]) == (404, "NotFound", 'configmaps "a" not found')


async def test_a_stale_update_conflicts(http, namespace):
    maps = MAPS.format(namespace)
    first = (await http.post(maps, config_map("a"))).json
    await http("PUT", f"{maps}/a", {**first, "data": {"x": "2"}})
    stale = await http("PUT", f"{maps}/a", {**first, "data": {"x": "3"}})
    assert (stale.status, stale.json["reason"]) == (409, "Conflict")


async def test_a_list_joins_its_items(http, namespace):
    maps = MAPS.format(namespace)
    for name in ("a", "b"):
        await http.post(maps, config_map(name))
    listed = (await http.get(maps)).json
    assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
    assert [i["metadata"]["name"] for i in listed["items"]] == ["a", "b", "kube-root-ca.crt"]
    assert listed["metadata"]["resourceVersion"].isdigit()


async def test_a_list_goes_on_page_by_page(http, namespace):
    maps = MAPS.format(namespace)
    for name in ("a", "b"):
        await http.post(maps, config_map(name))
    first = (await http.get(f"{maps}?limit=1")).json
    token = first["metadata"]["continue"]
    assert first["metadata"]["remainingItemCount"] == 2
    second = (await http.get(f"{maps}?limit=1&continue={token}")).json
    assert second["items"][0]["metadata"]["name"] == "b"


async def test_a_watch_streams_what_happens(http, namespace):
    maps = MAPS.format(namespace)
    listed = (await http.get(maps)).json
    version = listed["metadata"]["resourceVersion"]
    url = f"{http.server}{maps}?watch=1&resourceVersion={version}&timeoutSeconds=5"
    async with http.session.get(url) as stream:
        await http.post(maps, config_map("a"))
        await http("DELETE", f"{maps}/a")
        seen = [orjson.loads(await stream.content.readline()) for _ in range(2)]
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in seen] == [("ADDED", "a"), ("DELETED", "a")]


async def test_a_watch_ends_after_the_time_it_was_given(http, namespace):
    async with asyncio.timeout(30):
        answer = await http.get(f"{MAPS.format(namespace)}?watch=1&resourceVersion=&timeoutSeconds=1")
    assert answer.status == 200
    assert answer.headers["Transfer-Encoding"] == "chunked"


async def test_a_watch_from_the_future_is_refused_in_words(http, namespace):
    answer = await http.get(f"{MAPS.format(namespace)}?watch=1&resourceVersion=abc&timeoutSeconds=1")
    assert (answer.status, answer.json["kind"]) == (400, "Status")


async def test_tables_have_columns_and_rows(http, namespace):
    await http.post(MAPS.format(namespace), config_map("a", x="1", y="2"))
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    table = (await http.get(MAPS.format(namespace) + "/a", Accept=accept)).json
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert table["rows"][0]["cells"][:2] == ["a", 2]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    listed = (await http.get(MAPS.format(namespace), Accept=accept)).json
    assert [r["cells"][0] for r in listed["rows"]] == ["a", "kube-root-ca.crt"]


async def test_what_a_collection_loses_is_told_as_a_table(http, namespace):
    await http.post(MAPS.format(namespace), config_map("a", x="1"))
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    path = f"{MAPS.format(namespace)}?fieldSelector=metadata.name=a"
    table = (await http("DELETE", path, Accept=accept)).json
    assert (table["kind"], [r["cells"][0] for r in table["rows"]]) == ("Table", ["a"])
    assert (await http.get(f"{MAPS.format(namespace)}/a")).status == 404


async def test_a_scale_has_columns_of_its_own(http, namespace):
    path = f"/apis/apps/v1/namespaces/{namespace}/replicasets"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    assert (await http.post(path, {"metadata": {"name": "r"}, "spec": spec})).status == 201
    table = (await http.get(f"{path}/r/scale", Accept="application/json;as=Table;v=v1;g=meta.k8s.io")).json
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Desired", "Available", "Age"]
    assert table["rows"][0]["cells"][:3] == ["r", 0, 0]


async def test_partial_metadata_leaves_out_the_rest(http, namespace):
    await http.post(MAPS.format(namespace), config_map("a", x="1"))
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    listed = (await http.get(MAPS.format(namespace), Accept=accept)).json
    assert listed["kind"] == "PartialObjectMetadataList"
    assert set(listed["items"][0]) == {"kind", "apiVersion", "metadata"}


async def test_yaml_goes_in_and_out(http, namespace):
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yaml}\ndata: {a: b}\n"
    made = await http.post(MAPS.format(namespace), body, Content_Type="application/yaml", Accept="application/yaml")
    assert made.status == 201
    assert made.headers["Content-Type"] == "application/yaml"
    assert b"kind: ConfigMap" in made.body


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({"Accept": "text/html"}, 406, "NotAcceptable"),
        ({"Content_Type": "text/plain"}, 415, "UnsupportedMediaType"),
    ],
)
async def test_unknown_media_are_refused(http, namespace, headers, status, reason):
    answer = await http.post(MAPS.format(namespace), orjson.dumps(config_map("a")), **headers)
    assert (answer.status, answer.json["reason"]) == (status, reason)


async def test_unknown_fields_are_warned_about_or_refused(http, namespace):
    body = {**config_map("a"), "nonsense": 1}
    warned = await http.post(MAPS.format(namespace), body)
    assert warned.status == 201
    assert warned.headers.getall("Warning") == ['299 - "unknown field \\"nonsense\\""']
    body["metadata"] = {"name": "b"}
    strict = await http.post(f"{MAPS.format(namespace)}?fieldValidation=Strict", body)
    assert (strict.status, strict.json["reason"]) == (400, "BadRequest")
    assert 'unknown field "nonsense"' in strict.json["message"]


async def test_repeated_fields_are_found(http, namespace):
    body = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"x":"1","x":"2"}}'
    strict = await http.post(f"{MAPS.format(namespace)}?fieldValidation=Strict", body, Content_Type="application/json")
    assert strict.status == 400
    assert 'duplicate field "data.x"' in strict.json["message"]


async def test_a_dry_run_stores_nothing(http, namespace):
    made = await http.post(f"{MAPS.format(namespace)}?dryRun=All", config_map("a"))
    assert made.status == 201
    assert (await http.get(f"{MAPS.format(namespace)}/a")).status == 404


async def test_options_are_checked(http, namespace):
    bad = await http.post(f"{MAPS.format(namespace)}?dryRun=Some&fieldValidation=Maybe", config_map("a"))
    assert (bad.status, bad.json["reason"]) == (422, "Invalid")
    assert {c["field"] for c in bad.json["details"]["causes"]} == {"dryRun", "fieldValidation"}


async def test_apply_needs_a_field_manager(http, namespace):
    answer = await http(
        "PATCH", f"{MAPS.format(namespace)}/a", orjson.dumps(config_map("a")), Content_Type="application/apply-patch+yaml"
    )
    assert answer.status == 422
    assert "fieldManager: Required value" in answer.json["message"]
    applied = await http(
        "PATCH",
        f"{MAPS.format(namespace)}/a?fieldManager=me",
        orjson.dumps(config_map("a")),
        Content_Type="application/apply-patch+yaml",
    )
    assert applied.status == 201
    assert applied.json["metadata"]["managedFields"][0]["manager"] == "me"


async def test_a_head_request_has_no_body(http, namespace):
    await http.post(MAPS.format(namespace), config_map("a"))
    answer = await http("HEAD", f"{MAPS.format(namespace)}/a")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 0


async def test_bodies_beyond_the_limit_are_refused(http, namespace):
    answer = await http.post(MAPS.format(namespace), b"x" * (3 * 1024 * 1024 + 1), Content_Type="application/json")
    assert (answer.status, answer.json["reason"]) == (413, "RequestEntityTooLarge")


async def test_unknown_resources_are_not_found(http):
    for path in ("/apis/nonsense/v1/things", "/nonsense"):
        answer = await http.get(path)
        assert (answer.status, answer.body) == (404, b"404 page not found\n"), path
    for path in ("/api/v1/nonsense", "/api/v1/namespaces/default/pods/p/nonsense", "/api/v1/namespaces/default/nodes"):
        answer = await http.get(path)
        assert (answer.status, answer.json["reason"]) == (404, "NotFound"), path


async def test_a_method_of_the_other_sort_of_url_is_not_allowed(http, namespace):
    collection = MAPS.format(namespace)
    for method, path in (("POST", f"{collection}/a"), ("PUT", collection), ("PATCH", collection)):
        answer = await http(method, path)
        assert (answer.status, answer.json["reason"]) == (405, "MethodNotAllowed"), (method, path)


async def test_verbs_that_a_kind_lacks_are_not_allowed(http):
    answer = await http("DELETE", "/api/v1/namespaces")
    assert (answer.status, answer.json["reason"]) == (405, "MethodNotAllowed")
    answer = await http.post("/api/v1/pods", {"metadata": {"name": "p"}})
    assert answer.status == 405


async def test_cve_2019_11247_the_scope_of_a_url_must_be_the_kinds(http, namespace):
    assert (await http.get(f"/api/v1/namespaces/{namespace}/nodes")).status == 404
    assert (await http.get("/api/v1/pods/p")).status == 404
    assert (await http.get(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/clusterroles/cluster-admin")).status == 404


async def test_every_answer_says_which_flow_it_belonged_to_and_has_an_id(http):
    answer = await http.get("/api/v1/namespaces", Audit_Id="my-own-id")
    assert answer.headers["Audit-Id"] == "my-own-id"
    assert answer.headers["X-Kubernetes-Pf-Flowschema-Uid"]
    assert answer.headers["X-Kubernetes-Pf-Prioritylevel-Uid"]


async def test_a_collection_is_deleted_by_its_labels(http, namespace):
    maps = MAPS.format(namespace)
    for name, label in (("a", "x"), ("b", "y")):
        await http.post(maps, {**config_map(name), "metadata": {"name": name, "labels": {"l": label}}})
    assert (await http("DELETE", f"{maps}?labelSelector=l%3Dx")).status == 200
    left = [i["metadata"]["name"] for i in (await http.get(maps)).json["items"]]
    assert left == ["b", "kube-root-ca.crt"]


async def test_delete_options_may_stand_in_the_body(http, namespace):
    maps = MAPS.format(namespace)
    await http.post(maps, config_map("a"))
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "another"}}
    refused = await http("DELETE", f"{maps}/a", options)
    assert (refused.status, refused.json["reason"]) == (409, "Conflict")
    bad = await http("DELETE", f"{maps}/a", {"propagationPolicy": "Sideways"})
    assert bad.status == 422


async def test_a_kind_that_does_not_belong_is_refused(http, namespace):
    answer = await http.post(MAPS.format(namespace), {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}})
    assert answer.status == 400
    assert "cannot be handled as a ConfigMap" in answer.json["message"]
    answer = await http.post(MAPS.format(namespace), {"apiVersion": "apps/v1", "kind": "ConfigMap"})
    assert "does not match the expected API version (v1)" in answer.json["message"]


@pytest.mark.parametrize(
    ("form", "shown"), [("PartialObjectMetadata", {"kind": "PartialObjectMetadata"}), ("Table", {"kind": "Table"})]
)
async def test_a_watch_in_another_form_ends_its_first_objects_with_a_bookmark_of_that_form(http, namespace, form, shown):
    path = f"/api/v1/namespaces/{namespace}/secrets?watch=1&sendInitialEvents=true&allowWatchBookmarks=true"
    path += "&resourceVersionMatch=NotOlderThan&timeoutSeconds=1"
    answer = await http.get(path, Accept=f"application/json;as={form};g=meta.k8s.io;v=v1")
    last = orjson.loads(answer.body.splitlines()[-1])
    assert last["type"] == "BOOKMARK"
    assert shown.items() <= last["object"].items()
    assert b'"k8s.io/initial-events-end":"true"' in answer.body


async def test_what_has_no_metadata_has_no_table(http):
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert (await http.post(path, review, Accept=accept)).status == 406
    assert (await http.post(path, review, Accept=f"{accept},application/json")).status == 201


async def test_unknown_and_repeated_fields_are_told_together(http, namespace):
    body = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"nonsense":1,"data":{"x":"1","x":"2"}}'
    strict = await http.post(f"{MAPS.format(namespace)}?fieldValidation=Strict", body, Content_Type="application/json")
    assert 'strict decoding error: unknown field "nonsense", duplicate field "data.x"' in strict.json["message"]
    warned = await http.post(MAPS.format(namespace), body, Content_Type="application/json")
    assert len(warned.headers.getall("Warning")) == 2


async def test_a_null_in_a_map_of_texts_is_an_empty_text(http, namespace):
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: empty, labels: {l: }}\ndata: {a: , b: c}\n"
    made = await http.post(MAPS.format(namespace), body, Content_Type="application/yaml")
    assert (made.status, made.json["data"], made.json["metadata"]["labels"]) == (201, {"a": "", "b": "c"}, {"l": ""})


async def test_applied_yaml_has_no_key_twice(http, namespace):
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  x: '1'\n  x: '2'\n"
    path = f"{MAPS.format(namespace)}/a?fieldManager=m"
    refused = await http("PATCH", f"{path}&fieldValidation=Strict", body, Content_Type="application/apply-patch+yaml")
    assert (refused.status, refused.json["reason"]) == (400, "BadRequest")
    assert 'line 7: key "x" already set in map' in refused.json["message"]
    applied = await http("PATCH", path, body, Content_Type="application/apply-patch+yaml")
    assert (applied.status, applied.json["data"]) == (201, {"x": "2"})


async def test_applied_fields_must_be_declared(http, namespace):
    body = {**config_map("a"), "nonsense": 1}
    path = f"{MAPS.format(namespace)}/a?fieldManager=m&fieldValidation=Ignore"
    refused = await http("PATCH", path, orjson.dumps(body), Content_Type="application/apply-patch+yaml")
    assert refused.status == 500
    assert refused.json["message"] == (
        "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .nonsense: field not declared in schema"
    )


async def test_deprecated_kinds_say_so(http, namespace):
    answer = await http.get(f"/api/v1/namespaces/{namespace}/endpoints")
    assert answer.headers.getall("Warning") == [
        '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'
    ]
    assert "Warning" not in (await http.get(f"/api/v1/namespaces/{namespace}/services")).headers


@pytest.mark.parametrize("sizes", [[], [1], [10, 20], [300_000], [300_000, 1], [1, 300_000, 1], [100_000] * 7, [262_145] * 3])
def test_long_lists_come_in_pieces_that_make_one_document(sizes):
    from kubelite.api.handlers.list import joined

    values = [orjson.dumps("x" * size) for size in sizes]
    reply = joined(b'{"items":[', values)
    body = reply.body if reply.pieces is None else b"".join(reply.pieces)
    assert body == b'{"items":[' + b",".join(values) + b"]}"
    assert reply.pieces is None or reply.length == len(body)
