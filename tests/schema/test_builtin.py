from kubelite.schema import builtin


def test_the_table_has_every_resource_of_the_default_groups() -> None:
    table = builtin.kinds()
    assert len(list(table)) == 66
    assert table.groups()[0] == ""
    assert len(table.groups()) == 21
    assert table.versions("autoscaling") == ["v2", "v1"]


def test_lookups_by_resource_and_by_kind_find_the_same_row() -> None:
    table = builtin.kinds()
    for kind in table:
        assert table.resource(kind.group, kind.version, kind.plural) is kind
        assert table.of_kind(kind.api_version, kind.kind) is kind


def test_cve_2022_3162_prefixes_of_one_resource_never_match_anothers() -> None:
    prefixes = {kind.prefix for kind in builtin.kinds()}
    assert not [(a, b) for a in prefixes for b in prefixes if a != b and a.startswith(b)]


def test_resources_in_two_versions_share_their_objects() -> None:
    table = builtin.kinds()
    v1, v2 = (table.resource("autoscaling", v, "horizontalpodautoscalers") for v in ("v1", "v2"))
    core, events = table.resource("", "v1", "events"), table.resource("events.k8s.io", "v1", "events")
    assert v1 and v2 and core and events
    assert v1.prefix == v2.prefix
    assert core.prefix == events.prefix


def test_subresources_know_the_kind_of_their_bodies() -> None:
    pods = builtin.kinds().preferred("pods")
    eviction = pods.subresources["eviction"]
    assert (eviction.group, eviction.version, eviction.kind) == ("policy", "v1", "Eviction")
    assert pods.subresources["status"].kind == "Pod"
    scale = builtin.kinds().preferred("deployments.apps").subresources["scale"]
    assert (scale.group, scale.version, scale.kind) == ("autoscaling", "v1", "Scale")
    assert builtin.body("apps", "v1", "DeleteOptions") is not None
    assert builtin.body("autoscaling", "v1", "Scale") is not None


def test_two_tables_do_not_share_changes() -> None:
    first, second = builtin.kinds(), builtin.kinds()
    first.remove(first.preferred("pods"))
    assert second.resource("", "v1", "pods") is not None
