"""Get and list."""

import base64
from collections.abc import Callable

import orjson
import pytest

from kubelite.meta import errors
from kubelite.meta.types import Obj
from kubelite.registry import lists
from kubelite.store.contract import Compacted
from tests.registry.conftest import Cluster

Make = Callable[..., Obj]


async def fill(cluster: Cluster, config_map: Make, count: int) -> None:
    for number in range(count):
        labels = {"parity": "even" if number % 2 == 0 else "odd"}
        await cluster.create("configmaps", config_map(f"c{number:02}", metadata={"labels": labels}))


async def test_what_is_not_there_is_not_found(cluster: Cluster) -> None:
    with pytest.raises(errors.NotFound, match=r'^deployments.apps "web" not found$'):
        await cluster.get("deployments.apps", "web")


async def test_a_list_is_ordered_and_of_one_namespace(cluster: Cluster, config_map: Make) -> None:
    for name in ("b", "a"):
        await cluster.create("configmaps", config_map(name))
    await cluster.create("configmaps", config_map("c", metadata={"namespace": "other"}))
    assert cluster.names(await cluster.page("configmaps")) == ["a", "b"]
    assert cluster.names(await cluster.page("configmaps", "")) == ["a", "b", "c"]


async def test_cve_2022_3162_a_kind_never_lists_another_whose_name_it_starts(cluster: Cluster, pod: Make) -> None:
    await cluster.create("pods", pod())
    assert len((await cluster.page("podtemplates")).items) == 0


async def test_labels_select(cluster: Cluster, config_map: Make) -> None:
    await fill(cluster, config_map, 4)
    assert cluster.names(await cluster.page("configmaps", label_selector="parity=odd")) == ["c01", "c03"]
    assert cluster.names(await cluster.page("configmaps", label_selector="parity notin (odd)")) == ["c00", "c02"]


async def test_fields_select(cluster: Cluster, pod: Make) -> None:
    await cluster.create("pods", pod("a"))
    await cluster.create("pods", pod("b", nodeName="n1"))
    assert cluster.names(await cluster.page("pods", field_selector="spec.nodeName=n1")) == ["b"]
    assert cluster.names(await cluster.page("pods", field_selector="metadata.name!=b,status.phase=Pending")) == ["a"]


async def test_other_fields_cannot_select(cluster: Cluster) -> None:
    with pytest.raises(errors.BadRequest, match=r"field label not supported: spec.foo"):
        await cluster.page("pods", field_selector="spec.foo=1")
    with pytest.raises(errors.BadRequest, match=r'"data.a" is not a known field selector: only "metadata.name", "metadata'):
        await cluster.page("configmaps", field_selector="data.a=1")


async def test_a_selector_that_does_not_parse_is_a_bad_request(cluster: Cluster) -> None:
    with pytest.raises(errors.BadRequest):
        await cluster.page("pods", label_selector="a in (")


async def test_pages_come_from_one_snapshot(cluster: Cluster, config_map: Make) -> None:
    await fill(cluster, config_map, 5)
    first = await cluster.page("configmaps", limit=2)
    assert (cluster.names(first), first.remaining) == (["c00", "c01"], 3)
    await cluster.delete("configmaps", "c02")
    await cluster.create("configmaps", config_map("c99"))
    second = await cluster.page("configmaps", limit=2, continue_token=first.continue_token)
    assert (cluster.names(second), second.revision) == (["c02", "c03"], first.revision)
    third = await cluster.page("configmaps", limit=2, continue_token=second.continue_token)
    assert (cluster.names(third), third.continue_token, third.remaining) == (["c04"], "", None)


async def test_pages_of_a_selection_say_nothing_of_what_remains(cluster: Cluster, config_map: Make) -> None:
    await fill(cluster, config_map, 6)
    first = await cluster.page("configmaps", limit=2, label_selector="parity=even")
    assert (cluster.names(first), first.remaining) == (["c00", "c02"], None)
    second = await cluster.page("configmaps", limit=2, label_selector="parity=even", continue_token=first.continue_token)
    assert (cluster.names(second), second.continue_token) == (["c04"], "")


async def test_a_token_of_an_older_snapshot_is_served_from_history(cluster: Cluster, config_map: Make) -> None:
    await fill(cluster, config_map, 4)
    first = await cluster.page("configmaps", limit=1)
    await cluster.delete("configmaps", "c01")
    cluster.registry._lists = lists.Lists(cluster.registry)  # as after a restart
    second = await cluster.page("configmaps", continue_token=first.continue_token)
    assert cluster.names(second) == ["c01", "c02", "c03"]


async def test_a_token_that_is_used_over_and_over_is_compacted_too(
    cluster: Cluster, config_map: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        await cluster.create("configmaps", config_map(name))
    first = await cluster.page("configmaps", limit=1)
    await cluster.create("configmaps", config_map("d"))
    again = await cluster.page("configmaps", limit=1, continue_token=first.continue_token)
    assert cluster.names(again) == ["b"]

    async def compacted(prefix: str, revision: int) -> None:
        raise Compacted(revision, revision)

    store = cluster.registry.store
    monkeypatch.setattr(type(store), "compacted_revision", property(lambda _: first.revision))
    monkeypatch.setattr(store, "scan_at", compacted)
    with pytest.raises(errors.Expired):
        await cluster.page("configmaps", limit=1, continue_token=first.continue_token)


async def test_a_compacted_token_comes_back_with_one_to_go_on_with(
    cluster: Cluster, config_map: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(cluster, config_map, 3)
    first = await cluster.page("configmaps", limit=1)
    await cluster.delete("configmaps", "c01")
    cluster.registry._lists = lists.Lists(cluster.registry)

    async def compacted(prefix: str, revision: int) -> None:
        raise Compacted(revision, revision + 1)

    monkeypatch.setattr(cluster.registry.store, "scan_at", compacted)
    with pytest.raises(errors.Expired, match=r"The provided continue parameter is too old") as caught:
        await cluster.page("configmaps", continue_token=first.continue_token)
    token = caught.value.status()["metadata"]["continue"]
    assert cluster.names(await cluster.page("configmaps", continue_token=token)) == ["c02"]


async def test_a_list_in_pages_goes_on_over_a_compaction(cluster: Cluster, config_map: Make) -> None:
    await fill(cluster, config_map, 6)
    first = await cluster.page("configmaps", limit=2)
    await cluster.delete("configmaps", "c03")
    await cluster.create("configmaps", config_map("c02-new"))
    await cluster.registry.store.compact(cluster.registry.store.revision)
    with pytest.raises(errors.Expired, match="use the continue token in this response") as caught:
        await cluster.page("configmaps", limit=2, continue_token=first.continue_token)
    token = caught.value.status()["metadata"]["continue"]
    second = await cluster.page("configmaps", limit=2, continue_token=token)
    assert cluster.names(second) == ["c02", "c02-new"]
    assert second.revision > first.revision and second.remaining == 2
    await cluster.create("configmaps", config_map("c04-new"))
    third = await cluster.page("configmaps", limit=2, continue_token=second.continue_token)
    assert (cluster.names(third), third.revision) == (["c04", "c05"], second.revision)
    with pytest.raises(errors.Expired, match="The resourceVersion for the provided list is too old"):
        await cluster.page("configmaps", resource_version=str(first.revision), resource_version_match="Exact")


@pytest.mark.parametrize(
    "token",
    [
        "!",
        "YWJj",
        base64.urlsafe_b64encode(orjson.dumps({"v": "meta.k8s.io/v1", "rv": 1, "start": "../secrets/x"})).decode(),
        base64.urlsafe_b64encode(orjson.dumps({"v": "v0", "rv": 1, "start": "a"})).decode(),
        base64.urlsafe_b64encode(orjson.dumps({"v": "meta.k8s.io/v1", "rv": 0, "start": "a"})).decode(),
    ],
)
async def test_a_forged_token_is_a_bad_request(cluster: Cluster, token: str) -> None:
    with pytest.raises(errors.BadRequest, match=r"continue key is not valid"):
        await cluster.page("configmaps", continue_token=token)


async def test_an_exact_revision_lists_the_past(cluster: Cluster, config_map: Make) -> None:
    made = await cluster.create("configmaps", config_map("a"))
    await cluster.create("configmaps", config_map("b"))
    version = made["metadata"]["resourceVersion"]
    page = await cluster.page("configmaps", resource_version=version, resource_version_match=r"Exact")
    assert (cluster.names(page), str(page.revision)) == (["a"], version)
    newer = await cluster.page("configmaps", resource_version=version, resource_version_match=r"NotOlderThan")
    assert cluster.names(newer) == ["a", "b"]


async def test_a_revision_from_the_future_times_out(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "FRESHNESS_TIMEOUT_S", 0.01)
    with pytest.raises(errors.Timeout, match=r"Too large resource version: 999") as caught:
        await cluster.page("configmaps", resource_version="999")
    assert caught.value.causes[0].reason == "ResourceVersionTooLarge"


async def test_list_options_that_exclude_each_other_are_invalid(cluster: Cluster) -> None:
    with pytest.raises(errors.Invalid, match=r"resourceVersionMatch is forbidden unless resourceVersion is provided"):
        await cluster.page("configmaps", resource_version_match=r"Exact")
    with pytest.raises(errors.BadRequest, match=r"invalid resource version"):
        await cluster.page("configmaps", resource_version="abc")


async def test_an_autoscaler_is_read_in_both_versions(cluster: Cluster) -> None:
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    }
    await cluster.create("horizontalpodautoscalers.autoscaling", scaler)
    kind = cluster.registry.kinds.resource("autoscaling", "v1", "horizontalpodautoscalers")
    assert kind is not None
    target = lists.Target(kind, "default", "h")
    old = orjson.loads((await cluster.registry.get(target)).value)
    assert old["apiVersion"] == "autoscaling/v1"
    assert old["spec"]["maxReplicas"] == 3
    [listed] = (await cluster.registry.list(lists.Target(kind, "default"), lists.ListOptions())).items
    assert orjson.loads(listed.value) == old


async def test_events_are_selected_by_the_names_of_their_version(cluster: Cluster) -> None:
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"},
        "reportingComponent": "tester",
        "reason": "Testing",
        "type": "Normal",
    }
    await cluster.create("events", event)
    assert cluster.names(await cluster.page("events", field_selector="source=tester,involvedObject.name=web")) == ["e"]
    kind = cluster.registry.kinds.resource("events.k8s.io", "v1", "events")
    assert kind is not None
    options = lists.ListOptions(field_selector="reportingController=tester,regarding.name=web")
    assert cluster.names(await cluster.registry.list(lists.Target(kind, "default"), options)) == ["e"]
