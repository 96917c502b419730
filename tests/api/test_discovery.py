"""Discovery, OpenAPI, health and metrics as clients read them."""

import asyncio

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from kubelite.schema import wire

V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


async def test_groups_and_versions_are_listed(http):
    assert (await http.get("/api")).json["versions"] == ["v1"]
    groups = [g["name"] for g in (await http.get("/apis")).json["groups"]]
    assert groups[:3] == ["apiregistration.k8s.io", "apps", "events.k8s.io"]
    assert (await http.get("/apis/autoscaling")).json["preferredVersion"]["version"] == "v2"


async def test_resources_have_their_names_and_hashes(http):
    resources = {r["name"]: r for r in (await http.get("/api/v1")).json["resources"]}
    assert resources["pods"]["shortNames"] == ["po"]
    assert resources["pods"]["storageVersionHash"] == "xPOwRZ+Yhw8="
    assert resources["pods/eviction"] == {
        "name": "pods/eviction",
        "singularName": "",
        "namespaced": True,
        "group": "policy",
        "version": "v1",
        "kind": "Eviction",
        "verbs": ["create"],
    }


async def test_everything_comes_in_one_document_where_that_is_accepted(http):
    answer = await http.get("/apis", Accept=V2)
    assert answer.headers["Content-Type"] == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    assert answer.json["kind"] == "APIGroupDiscoveryList"
    names = [g["metadata"]["name"] for g in answer.json["items"]]
    assert "apps" in names
    again = await http.get("/apis", Accept=V2, If_None_Match=answer.headers["Etag"])
    assert (again.status, again.body) == (304, b"")


async def test_openapi_v3_has_a_document_for_each_version(http):
    index = (await http.get("/openapi/v3")).json["paths"]
    url = index["apis/apps/v1"]["serverRelativeURL"]
    answer = await http.get(url)
    assert "2099" in answer.headers["Expires"]
    assert answer.headers.getall("Cache-Control") == ["public, immutable"]
    moved = await http.get("/openapi/v3/apis/apps/v1?hash=OLD")
    assert (moved.status, moved.headers["Location"]) == (301, url)
    schemas = answer.json["components"]["schemas"]
    assert schemas["io.k8s.api.apps.v1.Deployment"]["properties"]["spec"]["allOf"]
    assert "/apis/apps/v1/namespaces/{namespace}/deployments/{name}" in answer.json["paths"]
    assert (await http.get("/openapi/v3/apis/nonsense/v1")).status == 404


async def test_openapi_v3_documents_refer_only_to_what_they_hold(http):
    import re

    for path in (await http.get("/openapi/v3")).json["paths"]:
        answer = await http.get(f"/openapi/v3/{path}")
        referred = set(re.findall(rb'"#/components/schemas/([^"]+)"', answer.body))
        held = {name.encode() for name in answer.json["components"]["schemas"]}
        assert referred <= held, path


async def test_openapi_v2_is_one_document(http):
    document = (await http.get("/openapi/v2")).json
    assert document["swagger"] == "2.0"
    assert len(document["definitions"]) > 500


@pytest.mark.parametrize("name", ["v2@v1.0", "v2.v1.0"])
async def test_openapi_v2_comes_as_the_message_that_go_clients_ask_for(http, name):
    answer = await http.get("/openapi/v2", Accept=f"application/com.github.proto-openapi.spec.{name}+protobuf")
    assert answer.headers["Content-Type"] == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    document = dict(wire.fields(answer.body))
    assert document[1] == b"2.0"
    definitions = {}
    for _, pair in wire.fields(document[9]):
        named = dict(wire.fields(pair))
        definitions[named[1].decode()] = named[2]
    json = (await http.get("/openapi/v2")).json
    assert definitions.keys() == json["definitions"].keys()
    pod = list(wire.fields(definitions["io.k8s.api.core.v1.Pod"]))
    assert (4, json["definitions"]["io.k8s.api.core.v1.Pod"]["description"].encode()) in pod
    extensions = [dict(wire.fields(value)) for number, value in pod if number == 31]
    (kinds,) = (dict(wire.fields(e[2]))[2] for e in extensions if e[1] == b"x-kubernetes-group-version-kind")
    assert kinds == b'[{"group":"","kind":"Pod","version":"v1"}]'
    paths = [dict(wire.fields(pair))[1].decode() for number, pair in wire.fields(document[8]) if number == 2]
    assert paths == list(json["paths"])


@pytest.mark.parametrize("path", ["/openapi/v2", "/openapi/v3/api/v1"])
async def test_openapi_in_a_form_that_is_not_served_is_not_acceptable(http, path):
    assert (await http.get(path, Accept="text/html")).status == 406


async def test_openapi_tells_enums_and_defaults_of_fields(http):
    schemas = (await http.get("/openapi/v3/api/v1")).json["components"]["schemas"]
    assert schemas["io.k8s.api.core.v1.ContainerPort"]["properties"]["protocol"]["enum"] == ["SCTP", "TCP", "UDP"]
    assert schemas["io.k8s.api.core.v1.ContainerPort"]["properties"]["protocol"]["default"] == "TCP"
    modes = schemas["io.k8s.api.core.v1.PersistentVolumeClaimSpec"]["properties"]["accessModes"]["items"]["enum"]
    assert modes == ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"]


CUSTOM_KINDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def crontabs(group, spec):
    """A definition of CronTabs whose spec has this schema."""
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    return {
        "metadata": {"name": f"crontabs.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "shortNames": ["ct"]},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


async def test_openapi_tells_which_patches_a_kind_takes(http):
    """kubectl apply sends a custom object a strategic patch, which no server takes, if the document has it among the types."""
    assert (await http.post(CUSTOM_KINDS, crontabs("patched.example.com", {"type": "object"}))).status == 201
    taken = {}
    for path, plural in (("apis/apps/v1", "deployments"), ("apis/patched.example.com/v1", "crontabs")):
        paths = (await http.get(f"/openapi/v3/{path}")).json["paths"]
        patch = paths[f"/{path}/namespaces/{{namespace}}/{plural}/{{name}}"]["patch"]
        taken[plural] = set(patch["requestBody"]["content"])
    assert taken["deployments"] - taken["crontabs"] == {"application/strategic-merge-patch+json"}
    assert "application/merge-patch+json" in taken["crontabs"]


async def test_openapi_writes_out_what_extensions_of_a_custom_schema_mean(http):
    spec = {
        "type": "object",
        "required": ["port", "maybe"],
        "properties": {
            "port": {"x-kubernetes-int-or-string": True},
            "maybe": {"type": "string", "nullable": True},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "pod": {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": {"type": "object"}}},
        },
    }
    assert (await http.post(CUSTOM_KINDS, crontabs("written.example.com", spec))).status == 201
    name = "com.example.written.v1.CronTab"
    schemas = (await http.get("/openapi/v3/apis/written.example.com/v1")).json["components"]["schemas"]
    v3 = schemas[name]["properties"]["spec"]["properties"]
    assert v3["port"]["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    assert set(v3["pod"]["properties"]) == {"apiVersion", "kind", "metadata", "spec"}
    assert v3["pod"]["required"] == ["kind", "apiVersion"]
    v2 = (await http.get("/openapi/v2")).json["definitions"][name]["properties"]["spec"]
    assert v2["required"] == ["port"]
    assert [key for key in ("maybe", "any", "port") if "type" in v2["properties"][key]] == []


async def test_a_custom_kind_appears_and_goes(http):
    definition = crontabs("stable.example.com", {"type": "object", "properties": {"cron": {"type": "string"}}})
    path = CUSTOM_KINDS
    assert (await http.post(path, definition)).status == 201
    resources = (await http.get("/apis/stable.example.com/v1")).json["resources"]
    assert resources[0]["shortNames"] == ["ct"]
    document = (await http.get("/openapi/v3/apis/stable.example.com/v1")).json
    assert document["components"]["schemas"]["com.example.stable.v1.CronTab"]["properties"]["spec"]
    made = await http.post(
        "/apis/stable.example.com/v1/namespaces/default/crontabs",
        {"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "c"}, "spec": {"cron": "* * * * *"}},
    )
    assert made.status == 201
    assert (await http.get("/apis/stable.example.com/v1/crontabs")).json["kind"] == "CronTabList"
    assert (await http("DELETE", f"{path}/crontabs.stable.example.com")).status == 200


@pytest.mark.parametrize("endpoint", ["livez", "readyz", "healthz"])
async def test_health_is_told_check_by_check(http, endpoint):
    assert (await http.get(f"/{endpoint}")).body == b"ok"
    verbose = (await http.get(f"/{endpoint}?verbose")).body.decode()
    assert "[+]store ok\n" in verbose
    assert verbose.endswith(f"{endpoint} check passed\n")
    assert (await http.get(f"/{endpoint}/store")).body == b"ok"
    assert (await http.get(f"/{endpoint}/nonsense")).status == 404


def families_of(body: bytes) -> dict[str, Metric]:
    """A scrape's metrics by name, parsed as Prometheus parses them."""
    found = [*text_string_to_metric_families(body.decode())]
    assert len({family.name for family in found}) == len(found), "a metric is described twice"
    return {family.name: family for family in found}


async def test_metrics_count_requests_by_resource(http):
    await http.get("/api/v1/nodes")
    answer = await http.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = families_of(answer.body)
    labels = {"verb": "LIST", "group": "", "version": "v1", "resource": "nodes", "subresource": "", "scope": "cluster"}
    labels["component"] = "apiserver"
    requests = [s for s in families["apiserver_request"].samples if s.labels == {**labels, "code": "200"}]
    assert [(s.name, s.value >= 1) for s in requests] == [("apiserver_request_total", True)]
    durations = [s for s in families["apiserver_request_duration_seconds"].samples if labels.items() <= s.labels.items()]
    below = [s.value for s in durations if s.name.endswith("_bucket")]
    assert below == sorted(below)
    assert below[-1] == next(s.value for s in durations if s.name.endswith("_count")) >= 1


async def test_metrics_show_every_part(http):
    families = families_of((await http.get("/metrics")).body)

    def value(metric: str, /, **labels: str) -> float:
        return next(s.value for s in families[metric].samples if s.labels == labels)

    async with asyncio.timeout(30):
        while value("scheduler_cache_size", type="nodes") == 0:  # the node comes after the server
            families = families_of((await http.get("/metrics")).body)
    assert value("kubelite_store_writable") == 1
    assert value("kubelite_store_writes") > 0
    assert value("apiserver_storage_objects", resource="nodes") == 1
    assert value("apiserver_flowcontrol_current_limit_seats", priority_level="workload-high") > 0
    assert sum(s.value for s in families["workqueue_adds"].samples) > 0
    assert value("workqueue_depth", name="namespace-controller") == 0
    assert value("scheduler_cache_size", type="nodes") == 1
    assert value("scheduler_pending_pods", queue="unschedulable") == 0
    assert value("kubelite_events_dropped", component="controllers") == 0
    assert value("kubelite_node_sessions") == 1
    assert value("process_resident_memory_bytes") > 0


async def test_how_checks_went_is_told_apart_from_other_metrics(http):
    families = families_of((await http.get("/metrics/slis")).body)
    assert families.keys() == {"kubernetes_healthcheck", "kubernetes_healthchecks"}
    assert {"name": "store", "type": "readyz"} in [s.labels for s in families["kubernetes_healthcheck"].samples if s.value == 1]
    counted = {"name": "store", "type": "readyz", "status": "success"}
    assert [s.value >= 1 for s in families["kubernetes_healthchecks"].samples if s.labels == counted] == [True]


async def test_cve_2020_8552_metrics_have_no_labels_of_a_clients_making(http):
    await http.get("/api/v1/nonsense-resource")
    await http.get("/nonsense-path")
    assert b"nonsense" not in (await http.get("/metrics")).body


@pytest.mark.parametrize("path", ["/openid/v1/jwks", "/.well-known/openid-configuration"])
async def test_documents_are_found_with_a_slash_at_the_end_too(http, path):
    assert (await http.get(f"{path}/")).json == (await http.get(path)).json


@pytest.mark.parametrize("path", ["/version", "/version/"])
async def test_the_version_is_that_of_the_api(http, path):
    version = (await http.get(path)).json
    assert (version["major"], version["minor"]) == ("1", "34")
    assert version["gitVersion"].startswith("v1.34.")
