"""After which changes the plugins think that a pod which they refused may fit."""

from typing import Any

import pytest

from kubelite.meta.types import Obj
from kubelite.scheduler import profile
from kubelite.scheduler.framework import Change, ClusterEvent, Hinting
from kubelite.scheduler.owners import Owners
from kubelite.scheduler.volumes import Volumes
from tests.scheduler.objects import HOST, ZONE, World, anti_affinity, node, pod, spread

PLUGINS = {plugin.name: plugin for plugin in profile.default(Owners(), Volumes()).filters}
TAINTED = {"taints": [{"key": "dedicated", "value": "db", "effect": "NoSchedule"}]}
SPREAD = pod("a", topologySpreadConstraints=[spread(HOST)])
NEAR, AWAY = (pod("a", affinity=anti_affinity(ZONE, kind=kind, app="db")) for kind in ("podAffinity", "podAntiAffinity"))
PORT = {"ports": [{"containerPort": 80, "hostPort": 80}]}
PORTS = pod("a", container=PORT)


def helps(plugin: str, waiting: Obj, event: ClusterEvent, old: Obj | None = None, new: Obj | None = None) -> bool:
    """Whether the plugin says so. Pods are told of as the snapshot has them."""
    world = World()

    def told(obj: Obj | None) -> Any:
        return world.info(obj) if obj is not None and "containers" in obj["spec"] else obj

    hinting = PLUGINS[plugin]
    assert isinstance(hinting, Hinting)
    return hinting.helps(Change(event, told(old), told(new)), world.templates.of(waiting))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (None, node("n1", cpu="2"), True),
        (None, node("n1", cpu="500m"), False),
        (node("n1", cpu="1"), node("n1", cpu="2"), True),
        (node("n1", cpu="2"), node("n1", cpu="1"), False),
        (node("n1", memory="1Gi"), node("n1", memory="2Gi"), False),  # which it doesn't ask for
    ],
)
def test_a_node_helps_if_the_pod_fits_it_and_it_offers_more_than_before(old: Obj | None, new: Obj, expected: bool) -> None:
    assert helps("NodeResourcesFit", pod("a", cpu="1"), ClusterEvent.NODE_ALLOCATABLE, old, new) is expected


def test_a_taint_that_goes_helps_only_if_no_other_stays() -> None:
    both = {"taints": [*TAINTED["taints"], {"key": "slow", "effect": "NoSchedule"}]}
    assert helps("TaintToleration", pod("a"), ClusterEvent.NODE_TAINTS, node("n1", **TAINTED), node("n1"))
    assert not helps("TaintToleration", pod("a"), ClusterEvent.NODE_TAINTS, node("n1", **both), node("n1", **TAINTED))


def test_a_label_helps_if_the_node_matches_by_it() -> None:
    waiting = pod("a", nodeSelector={"disk": "ssd"})
    assert helps("NodeAffinity", waiting, ClusterEvent.NODE_LABELS, node("n1"), node("n1", labels={"disk": "ssd"}))
    assert not helps("NodeAffinity", waiting, ClusterEvent.NODE_LABELS, node("n1"), node("n1", labels={"disk": "hdd"}))


def test_a_pod_that_goes_helps_by_the_ports_that_it_had() -> None:
    other = pod("b", container={"ports": [{"containerPort": 80, "hostPort": 8080}]})
    assert helps("NodePorts", PORTS, ClusterEvent.POD_REMOVED, pod("b", container=PORT))
    assert not helps("NodePorts", PORTS, ClusterEvent.POD_REMOVED, other)


def test_a_pod_helps_who_wants_to_be_near_it_and_its_leaving_who_does_not() -> None:
    assert helps("InterPodAffinity", NEAR, ClusterEvent.POD_ASSIGNED, None, pod("b", labels={"app": "db"}))
    assert not helps("InterPodAffinity", NEAR, ClusterEvent.POD_ASSIGNED, None, pod("b", labels={"app": "web"}))
    assert helps("InterPodAffinity", AWAY, ClusterEvent.POD_REMOVED, pod("b", labels={"app": "db"}))
    assert not helps("InterPodAffinity", AWAY, ClusterEvent.POD_ASSIGNED, None, pod("b", labels={"app": "db"}))


def test_a_counted_pod_helps_spreading_when_it_comes_and_goes_but_not_while_it_ends() -> None:
    counted, ending = pod("b", labels={"app": "web"}), pod("b", labels={"app": "web"}, metadata={"deletionTimestamp": "now"})
    assert helps("PodTopologySpread", SPREAD, ClusterEvent.POD_REMOVED, counted)
    assert not helps("PodTopologySpread", SPREAD, ClusterEvent.POD_REMOVED, pod("b", labels={"app": "db"}))
    assert not helps("PodTopologySpread", SPREAD, ClusterEvent.POD_CHANGED, counted, {**ending, "spec": counted["spec"]})
    assert helps("PodTopologySpread", SPREAD, ClusterEvent.POD_CHANGED, counted, pod("b", labels={"app": "db"}))


def test_a_claim_helps_the_pods_that_use_it() -> None:
    waiting = pod("a", volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}])
    claim: Obj = {"metadata": {"name": "data", "namespace": "default"}, "spec": {}}
    other: Obj = {"metadata": {"name": "data", "namespace": "team-a"}, "spec": {}}
    assert helps("VolumeBinding", waiting, ClusterEvent.CLAIM, None, claim)
    assert not helps("VolumeBinding", waiting, ClusterEvent.CLAIM, None, other)
