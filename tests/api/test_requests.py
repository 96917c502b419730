"""Paths become request infos as Kubernetes reads them."""

import pytest

from kubelite.api import filters
from kubelite.api.requests import PathError, Request, parse_path, parse_query
from kubelite.meta.errors import BadRequest

CASES = [
    ("GET", "/api/v1/pods", "", ("list", "", "v1", "", "pods", "", "")),
    ("GET", "/api/v1/namespaces/a/pods", "", ("list", "", "v1", "a", "pods", "", "")),
    ("GET", "/api/v1/namespaces/a/pods?", "watch=1", ("watch", "", "v1", "a", "pods?", "", "")),
    ("GET", "/api/v1/namespaces/a/pods", "watch=true", ("watch", "", "v1", "a", "pods", "", "")),
    ("GET", "/api/v1/namespaces/a/pods", "watch=0", ("list", "", "v1", "a", "pods", "", "")),
    ("GET", "/api/v1/namespaces/a/pods/p", "", ("get", "", "v1", "a", "pods", "", "p")),
    ("HEAD", "/api/v1/namespaces/a/pods/p", "", ("get", "", "v1", "a", "pods", "", "p")),
    ("PUT", "/api/v1/namespaces/a/pods/p/status", "", ("update", "", "v1", "a", "pods", "status", "p")),
    ("POST", "/apis/apps/v1/namespaces/a/deployments", "", ("create", "apps", "v1", "a", "deployments", "", "")),
    ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d/scale", "", ("patch", "apps", "v1", "a", "deployments", "scale", "d")),
    ("DELETE", "/api/v1/namespaces/a/pods", "", ("deletecollection", "", "v1", "a", "pods", "", "")),
    ("DELETE", "/api/v1/nodes/n", "", ("delete", "", "v1", "", "nodes", "", "n")),
    ("GET", "/api/v1/namespaces/a", "", ("get", "", "v1", "a", "namespaces", "", "a")),
    ("PUT", "/api/v1/namespaces/a/finalize", "", ("update", "", "v1", "a", "namespaces", "finalize", "a")),
    ("GET", "/api/v1/watch/namespaces/a/pods/p", "", ("watch", "", "v1", "a", "pods", "", "p")),
    ("GET", "/api/v1/namespaces/a/services/s/proxy/x/y", "", ("get", "", "v1", "a", "services", "proxy", "s")),
]


@pytest.mark.parametrize(("method", "path", "query", "expected"), CASES)
def test_a_resource_path_says_what_is_asked_for(method, path, query, expected):
    info = parse_path(method, path, parse_query(query))
    found = (info.verb, info.group, info.version, info.namespace, info.resource, info.subresource, info.name)
    assert info.is_resource
    assert found == expected


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1", "/apis/apps", "/apis/apps/v1", "/healthz", "/metrics", "/x/y/z/a"])
def test_other_paths_are_no_resources(path):
    info = parse_path("GET", path, {})
    assert not info.is_resource
    assert (info.verb, info.path) == ("get", path)


def test_what_follows_a_subresource_is_kept():
    assert parse_path("GET", "/api/v1/namespaces/a/services/s/proxy/x/y", {}).parts == ("x", "y")


def test_a_field_selector_of_one_name_names_the_object():
    info = parse_path("GET", "/api/v1/namespaces/a/secrets", parse_query("fieldSelector=metadata.name%3Ds&labelSelector=a%3Db"))
    assert (info.verb, info.name, info.field_selector, info.label_selector) == ("list", "s", "metadata.name=s", "a=b")


def test_the_legacy_watch_prefix_needs_a_resource():
    with pytest.raises(PathError):
        parse_path("GET", "/api/v1/watch", {})


def test_cve_2020_8552_a_query_has_a_bounded_number_of_fields():
    with pytest.raises(BadRequest):
        parse_query("&".join(f"a{i}=1" for i in range(300)))


@pytest.mark.parametrize(("given", "seconds"), [("", 60), ("0s", 60), ("1s", 1), ("1m30s", 60), ("500ms", 0.5), ("-1s", 60)])
async def test_a_request_may_ask_for_less_time(given, seconds):
    request = Request(None, "GET", f"/api/v1/pods?timeoutSeconds=5&timeout={given}", {}, None)
    assert filters.timeout_of(request) == seconds


async def test_a_timeout_that_is_no_time_is_refused(http):
    answer = await http.get("/api/v1/pods?timeout=soon")
    assert (answer.status, answer.json["reason"]) == (400, "BadRequest")
    assert answer.json["message"] == 'invalid timeout specified in the request URL - time: invalid duration "soon"'
