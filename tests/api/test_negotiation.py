"""What Accept and Content-Type headers mean."""

import pytest

from kubelite.api.negotiation import Media, accepted, sent
from kubelite.meta.errors import ApiError, UnsupportedMediaType


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
    "accept", ["application/vnd.kubernetes.protobuf", "text/html", "application/json;as=Table;v=v9;g=meta.k8s.io"]
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
