"""Decisions as transcripts: nodes and pods in, a node or a reason out."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from kubelite.meta.types import Obj
from kubelite.scheduler import profile
from kubelite.scheduler.decide import Decision, decide, diagnose
from kubelite.scheduler.snapshot import PodInfo
from tests.scheduler.objects import HOST, ZONE, World, anti_affinity, node, pod, spread

TAINT = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}


def required(*expressions: Obj, **fields: list[str]) -> Obj:
    term: Obj = {"matchExpressions": list(expressions)}
    if fields:
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": fields["names"]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


class TestResources:
    def test_without_nodes_the_message_says_so(self) -> None:
        assert World().place(pod("a")) == "no nodes available to schedule pods"

    def test_pods_fill_nodes_up_and_the_reason_counts_the_nodes(self) -> None:
        world = World(node("n1", cpu="1"), node("n2", cpu="1"), node("n3", cpu="500m"))
        assert {world.place(pod(f"p{i}", cpu="600m")) for i in range(2)} == {"n1", "n2"}
        assert world.place(pod("p3", cpu="600m")) == "0/3 nodes are available: 3 Insufficient cpu."

    def test_several_reasons_of_a_node_are_all_counted_and_sorted(self) -> None:
        world = World(node("n1", cpu="1", memory="1Gi"), node("n2", cpu="8", memory="1Gi", pods="0"))
        message = world.place(pod("p", cpu="4", memory="2Gi"))
        assert message == "0/2 nodes are available: 1 Insufficient cpu, 1 Too many pods, 2 Insufficient memory."

    def test_extended_resources_are_counted_like_others(self) -> None:
        device = {"example.com/gpu": "1"}
        gpus = node("n1")
        gpus["status"]["allocatable"]["example.com/gpu"] = "1"
        world = World(gpus, node("n2"))
        assert world.place(pod("a", requests=device)) == "n1"
        assert world.place(pod("b", requests=device)) == "0/2 nodes are available: 2 Insufficient example.com/gpu."
        assert world.place(pod("c", requests={"example.com/fpga": "1"})).endswith("2 Insufficient example.com/fpga.")

    def test_a_pod_that_leaves_frees_what_it_had(self) -> None:
        world = World(node("n1", cpu="1"))
        world.put(pod("a", cpu="1"), "n1")
        assert world.decide(pod("b", cpu="1")).node == ""
        world.snapshot.remove_pod("uid-default-a")
        assert world.place(pod("b", cpu="1")) == "n1"

    def test_init_containers_and_sidecars_count_by_what_runs_at_once(self) -> None:
        world = World(node("n1", cpu="1"))
        inits = [
            {"name": "sidecar", "restartPolicy": "Always", "resources": {"requests": {"cpu": "300m"}}},
            {"name": "setup", "resources": {"requests": {"cpu": "700m"}}},
        ]
        fitting = pod("a", cpu="700m", initContainers=inits)
        assert world.templates.of(fitting).requests["cpu"] == 1000
        assert world.place(fitting) == "n1"

    def test_overhead_and_pod_level_requests_count(self) -> None:
        world = World(node("n1"))
        obj = pod("a", cpu="100m", memory="1Gi", overhead={"cpu": "50m"}, resources={"requests": {"cpu": "2"}})
        assert world.templates.of(obj).requests == {"cpu": 2050, "memory": 1 << 30}

    def test_the_emptier_node_is_preferred(self) -> None:
        world = World(node("n1"), node("n2"))
        world.put(pod("old", cpu="2", memory="4Gi"), "n1")
        assert world.place(pod("a", cpu="1", memory="1Gi")) == "n2"

    def test_a_node_whose_use_stays_balanced_is_preferred(self) -> None:
        world = World(node("n1", cpu="4", memory="4Gi"), node("n2", cpu="4", memory="4Gi"))
        world.put(pod("cpu", cpu="2", memory="100Mi"), "n1")
        world.put(pod("memory", cpu="100m", memory="2Gi"), "n2")
        assert world.place(pod("a", cpu="1500m", memory="128Mi")) == "n2"

    def test_best_effort_pods_spread_too(self) -> None:
        world = World(*(node(f"n{i}") for i in range(5)))
        assert {world.place(pod(f"p{i}")) for i in range(5)} == {f"n{i}" for i in range(5)}


class TestNodesThemselves:
    def test_taints_keep_pods_away_that_do_not_tolerate_them(self) -> None:
        world = World(node("n1", taints=[TAINT]), node("n2", cpu="1"))
        assert world.place(pod("a", cpu="2")) == (
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s)."
        )
        tolerant = pod("b", cpu="2", tolerations=[{"key": "dedicated", "operator": "Equal", "value": "db"}])
        assert world.place(tolerant) == "n1"
        assert world.place(pod("c", cpu="2", tolerations=[{"operator": "Exists"}])) == "n1"
        wrong = pod("d", cpu="2", tolerations=[{"key": "dedicated", "value": "web", "effect": "NoSchedule"}])
        assert "untolerated" in world.place(wrong)

    def test_prefer_no_schedule_is_only_a_preference(self) -> None:
        soft = [{"key": "slow", "effect": "PreferNoSchedule"}]
        world = World(node("n1", taints=soft), node("n2"))
        world.put(pod("old", cpu="1", memory="1Gi"), "n2")
        assert world.place(pod("a", cpu="100m")) == "n2"
        assert World(node("n1", taints=soft)).place(pod("a")) == "n1"

    def test_cordoned_nodes_take_only_pods_that_tolerate_it(self) -> None:
        world = World(node("n1", unschedulable=True))
        assert world.place(pod("a")) == "0/1 nodes are available: 1 node(s) were unschedulable."
        assert world.place(pod("b", tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}])) == "n1"
        world.snapshot.put_node(node("n1"))
        assert world.place(pod("a")) == "n1"

    def test_a_node_selector_chooses_by_labels(self) -> None:
        world = World(node("n1", labels={"disk": "ssd"}), node("n2"))
        assert world.possible(pod("a", nodeSelector={"disk": "ssd"})) == {"n1"}
        assert world.place(pod("b", nodeSelector={"disk": "tape"})) == (
            "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
        )
        world.snapshot.put_node(node("n2", labels={"disk": "tape"}))
        assert world.place(pod("b", nodeSelector={"disk": "tape"})) == "n2"

    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ({"key": "size", "operator": "In", "values": ["1", "2"]}, {"n1", "n2"}),
            ({"key": "size", "operator": "NotIn", "values": ["1"]}, {"n2", "n9", "none"}),
            ({"key": "size", "operator": "Exists"}, {"n1", "n2", "n9"}),
            ({"key": "size", "operator": "DoesNotExist"}, {"none"}),
            ({"key": "size", "operator": "Gt", "values": ["1"]}, {"n2", "n9"}),
            ({"key": "size", "operator": "Lt", "values": ["9"]}, {"n1", "n2"}),
        ],
    )
    def test_required_affinity_knows_all_operators(self, expression: Obj, expected: set[str]) -> None:
        world = World(*(node(f"n{i}", labels={"size": str(i)}) for i in (1, 2, 9)), node("none"))
        assert world.possible(pod("a", affinity=required(expression))) == expected

    def test_affinity_by_the_field_metadata_name_is_what_daemon_sets_use(self) -> None:
        world = World(node("n1"), node("n2"))
        assert world.possible(pod("a", affinity=required(names=["n2"]))) == {"n2"}

    def test_an_empty_term_matches_no_node(self) -> None:
        assert World(node("n1")).possible(pod("a", affinity=required())) == set()

    def test_preferred_affinity_outweighs_an_emptier_node(self) -> None:
        preference = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
        preferred = [{"weight": 1, "preference": preference}]
        affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
        world = World(node("n1", labels={"disk": "ssd"}), node("n2"))
        world.put(pod("old", cpu="1", memory="1Gi"), "n1")
        assert world.place(pod("a", affinity=affinity)) == "n1"

    def test_host_ports_collide_by_protocol_and_address(self) -> None:
        def web(name: str, **port: object) -> Obj:
            return pod(name, container={"ports": [{"containerPort": 80, "hostPort": 80, **port}]})

        world = World(node("n1"))
        world.put(web("old", hostIP="10.0.0.1"), "n1")
        refused = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
        assert world.place(web("a")) == refused
        assert world.place(web("b", hostIP="10.0.0.1")) == refused
        assert world.place(web("c", hostIP="10.0.0.2")) == "n1"
        assert world.place(web("d", protocol="UDP")) == "n1"
        world.snapshot.remove_pod("uid-default-old")
        world.snapshot.remove_pod("uid-default-c")
        assert world.place(web("a")) == "n1"

    def test_a_node_that_has_the_image_is_preferred(self) -> None:
        rich = node("n2")
        rich["status"]["images"] = [{"names": ["web:1"], "sizeBytes": 900 << 20}]
        world = World(node("n1"), rich, node("n3"))
        assert world.place(pod("a")) == "n2"


class TestSpreading:
    def zones(self, *counts: int) -> World:
        world = World(*(node(f"n{i}", labels={ZONE: f"z{i}"}) for i in range(len(counts))))
        for i, count in enumerate(counts):
            for j in range(count):
                world.put(pod(f"old-{i}-{j}", labels={"app": "web"}), f"n{i}")
        return world

    def test_zones_may_not_differ_by_more_than_the_skew(self) -> None:
        web = pod("a", labels={"app": "web"}, topologySpreadConstraints=[spread(ZONE)])
        assert self.zones(1, 0, 0).possible(web) == {"n1", "n2"}
        assert self.zones(1, 1, 1).possible(web) == {"n0", "n1", "n2"}
        loose = pod("a", labels={"app": "web"}, topologySpreadConstraints=[spread(ZONE, 2)])
        assert self.zones(1, 0, 2).possible(loose) == {"n0", "n1"}

    def test_only_pods_of_the_namespace_that_live_and_match_count(self) -> None:
        world = self.zones(0, 0)
        world.put(pod("other", labels={"app": "web"}, namespace="other"), "n0")
        world.put(pod("dying", labels={"app": "web"}, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), "n0")
        world.put(pod("db", labels={"app": "db"}), "n0")
        web = pod("a", labels={"app": "web"}, topologySpreadConstraints=[spread(ZONE)])
        assert world.possible(web) == {"n0", "n1"}
        world.put(pod("web", labels={"app": "web"}), "n0")
        assert world.possible(web) == {"n1"}

    def test_nodes_without_the_label_fail_with_a_reason_of_their_own(self) -> None:
        world = World(node("n1", labels={ZONE: "a"}), node("n2", labels={ZONE: "b"}, cpu="100m"), node("n3"))
        world.put(pod("old", labels={"app": "web"}), "n1")
        message = world.place(pod("a", cpu="1", labels={"app": "web"}, topologySpreadConstraints=[spread(ZONE)]))
        assert message == (
            "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints, "
            "1 node(s) didn't match pod topology spread constraints (missing required label)."
        )

    def test_with_fewer_domains_than_wanted_the_minimum_is_zero(self) -> None:
        web = pod("a", labels={"app": "web"}, topologySpreadConstraints=[spread(ZONE, minDomains=3)])
        assert self.zones(1, 1).possible(web) == set()

    def test_inclusion_policies_say_whose_pods_count(self) -> None:
        world = World(node("n0", labels={ZONE: "a"}), node("n1", labels={ZONE: "b"}, taints=[TAINT]))
        world.put(pod("old", labels={"app": "web"}), "n0")
        ignoring = pod("a", labels={"app": "web"}, topologySpreadConstraints=[spread(ZONE)])
        assert world.possible(ignoring) == set()  # the tainted zone counts, with none
        honoring = pod("a", labels={"app": "web"}, topologySpreadConstraints=[spread(ZONE, nodeTaintsPolicy="Honor")])
        assert world.possible(honoring) == {"n0"}

    def test_pods_of_a_service_spread_by_themselves(self) -> None:
        sizes = ((i, 8 + 8 * i) for i in range(4))
        world = World(*(node(f"n{i}", cpu=str(size), memory=f"{2 * size}Gi", labels={ZONE: f"z{i % 2}"}) for i, size in sizes))
        service = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"selector": {"app": "web"}}}
        world.owners.service_changed(None, service)
        nodes = [world.place(pod(f"p{i}", cpu="100m", labels={"app": "web"})) for i in range(4)]
        assert sorted(nodes) == ["n0", "n1", "n2", "n3"]

    def test_a_wish_to_spread_gives_way_when_it_must(self) -> None:
        wish = [spread(HOST, when="ScheduleAnyway")]
        world = World(node("n1"), node("n2", cpu="100m"))
        nodes = [world.place(pod(f"p{i}", cpu="100m", labels={"app": "web"}, topologySpreadConstraints=wish)) for i in range(4)]
        assert sorted(nodes) == ["n1", "n1", "n1", "n2"]


class TestInterPodAffinity:
    def test_anti_affinity_keeps_replicas_on_different_hosts(self) -> None:
        world = World(node("n1"), node("n2"))
        affinity = anti_affinity(app="web")
        placed = {world.place(pod(f"p{i}", labels={"app": "web"}, affinity=affinity)) for i in range(2)}
        assert placed == {"n1", "n2"}
        assert world.place(pod("p3", labels={"app": "web"}, affinity=affinity)) == (
            "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules."
        )

    def test_anti_affinity_of_existing_pods_holds_for_newcomers(self) -> None:
        world = World(node("n1"))
        world.put(pod("hermit", affinity=anti_affinity(app="web")), "n1")
        assert world.place(pod("a", labels={"app": "web"})) == (
            "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules."
        )
        assert world.place(pod("b", labels={"app": "db"})) == "n1"
        world.snapshot.remove_pod("uid-default-hermit")
        assert world.place(pod("a", labels={"app": "web"})) == "n1"

    def test_affinity_follows_pods_into_their_zone(self) -> None:
        world = World(*(node(f"n{i}", labels={ZONE: f"z{i // 2}"}) for i in range(4)), node("bare"))
        world.put(pod("db", labels={"app": "db"}), "n2")
        near = pod("a", affinity=anti_affinity(ZONE, kind="podAffinity", app="db"))
        assert world.possible(near) == {"n2", "n3"}
        lonely = pod("b", affinity=anti_affinity(ZONE, kind="podAffinity", app="none"))
        assert world.place(lonely) == "0/5 nodes are available: 5 node(s) didn't match pod affinity rules."

    def test_the_first_pod_with_affinity_to_its_own_kind_may_start(self) -> None:
        world = World(*(node(f"n{i}", labels={ZONE: f"z{i}"}) for i in range(3)), node("bare"))
        own = anti_affinity(ZONE, kind="podAffinity", app="web")
        first = world.place(pod("a", labels={"app": "web"}, affinity=own))
        assert first.startswith("n")
        assert world.possible(pod("b", labels={"app": "web"}, affinity=own)) == {first}

    def test_terms_reach_other_namespaces_by_name_or_label(self) -> None:
        world = World(node("n1"), node("n2"))
        world.put(pod("db", labels={"app": "db"}, namespace="data"), "n1")
        affinity = anti_affinity(kind="podAffinity", app="db")
        term = affinity["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
        assert world.possible(pod("a", affinity=affinity)) == set()
        term["namespaces"] = ["data"]
        assert world.possible(pod("b", affinity=affinity)) == {"n1"}
        del term["namespaces"]
        term["namespaceSelector"] = {"matchLabels": {"team": "data"}}
        assert world.possible(pod("c", affinity=affinity)) == set()
        world.snapshot.put_namespace("data", {"team": "data"})
        assert world.possible(pod("c", affinity=affinity)) == {"n1"}

    def test_preferences_of_both_sides_move_the_choice(self) -> None:
        world = World(node("n1"), node("n2"), node("n3"))
        world.put(pod("db", labels={"app": "db"}), "n2")
        assert world.place(pod("a", affinity=anti_affinity(preferred=10, kind="podAffinity", app="db"))) == "n2"
        world = World(node("n1"), node("n2"))
        world.put(pod("shy", affinity=anti_affinity(preferred=10, app="web")), "n1")
        world.put(pod("big", cpu="1", memory="1Gi"), "n2")
        assert world.place(pod("b", labels={"app": "web"})) == "n2"


class TestNominees:
    """Pods for which a node is kept until their victims have left it."""

    def decide(self, world: World, obj: Obj, *nominees: tuple[str, Obj], nominated: str = "") -> Decision:
        kept: dict[str, list[PodInfo]] = {}
        for name, waiting in nominees:
            kept.setdefault(name, []).append(world.info(waiting))
        return decide(world.snapshot, world.framework, world.templates.of(obj), nominees=kept, nominated=nominated)

    def test_their_room_is_left_to_them(self) -> None:
        world = World(node("n1", cpu="2"), node("n2", cpu="1"))
        waiting = pod("urgent", cpu="1500m")
        assert self.decide(world, pod("a", cpu="1"), ("n1", waiting)).node == "n2"
        diagnosis = self.decide(world, pod("b", cpu="1500m"), ("n1", waiting)).diagnosis
        assert diagnosis is not None
        assert diagnosis.reasons == {"Insufficient cpu": 2}
        assert world.place(pod("c", cpu="1500m")) == "n1"

    def test_they_count_on_their_node_alone_and_not_as_pods_to_be_near_to(self) -> None:
        world = World(*(node(f"n{i}", labels={ZONE: "a"}) for i in (1, 2)))
        near = pod("a", affinity=anti_affinity(ZONE, kind="podAffinity", app="db"))
        waiting = pod("db", labels={"app": "db"})
        assert self.decide(world, near, ("n1", waiting)).diagnosis is not None
        world.put(pod("old", labels={"app": "db"}), "n2")
        assert self.decide(world, near, ("n1", waiting)).feasible == 2

    def test_they_do_not_make_a_node_worse(self) -> None:
        world = World(node("n1", cpu="8"), node("n2", cpu="4"))
        assert self.decide(world, pod("a", cpu="1"), ("n1", pod("urgent", cpu="6"))).node == "n1"

    def test_a_pod_goes_to_the_node_that_is_kept_for_it_if_that_will_do(self) -> None:
        world = World(node("n1", cpu="2"), node("n2", cpu="8"))
        assert self.decide(world, pod("a", cpu="1"), nominated="n1").node == "n1"
        assert self.decide(world, pod("a", cpu="4"), nominated="n1").node == "n2"
        assert self.decide(world, pod("a", cpu="1"), nominated="gone").node == "n2"


NODES = st.builds(
    lambda i, zone, cpu, tainted: node(f"n{i}", cpu=cpu, labels={ZONE: zone} if zone else {}, taints=[TAINT] if tainted else []),
    st.integers(0, 9),
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(["1", "4"]),
    st.booleans(),
)
PODS = st.builds(
    lambda i, app, cpu, constraints, affinity, tolerations: pod(
        f"p{i}",
        cpu=cpu,
        labels={"app": app},
        topologySpreadConstraints=constraints,
        affinity=affinity,
        tolerations=tolerations,
    ),
    st.integers(0, 30),
    st.sampled_from(["web", "db"]),
    st.sampled_from(["", "300m"]),
    st.sampled_from([[], [spread(ZONE)], [spread(HOST, 2, "ScheduleAnyway")], [spread(HOST), spread(ZONE, 2)]]),
    st.sampled_from(
        [{}, anti_affinity(app="web"), anti_affinity(ZONE, kind="podAffinity", app="db"), anti_affinity(preferred=5, app="db")]
    ),
    st.sampled_from([[], [{"operator": "Exists"}]]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("node"), NODES),
        st.tuples(st.just("gone"), st.integers(0, 9)),
        st.tuples(st.just("pod"), PODS),
        st.tuples(st.just("end"), st.integers(0, 30)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS)
def test_what_is_kept_up_to_date_is_what_would_be_worked_out_anew(steps: list[tuple[str, object]]) -> None:
    """After every step a framework and a snapshot that lived through all changes decide like new ones."""
    world = World()
    for verb, what in steps:
        match verb, what:
            case "node", dict():
                world.snapshot.put_node(what)
            case "gone", int():
                world.snapshot.remove_node(f"n{what}")
            case "end", int():
                world.snapshot.remove_pod(f"uid-default-p{what}")
            case "pod", dict():
                if world.snapshot.pod(what["metadata"]["uid"]):
                    continue
                fresh = World(*(obj for obj in world.snapshot.nodes if obj))
                for name, row in world.snapshot.rows.items():
                    for info in world.snapshot.pods[row].values():
                        fresh.put(info.obj, name)
                fresh.framework = profile.default(fresh.owners, fresh.volumes)
                mine, theirs = world.decide(what), fresh.decide(what)
                assert mine.feasible == theirs.feasible
                if mine.diagnosis and theirs.diagnosis:
                    assert mine.diagnosis.message() == theirs.diagnosis.message()
                    continue
                # What remembered templates know is the same as what new ones find.
                template = world.templates.of(what)
                assert decide(world.snapshot, profile.default(world.owners, world.volumes), template) == mine
                assert not diagnose(world.snapshot, world.framework, template).reasons or mine.feasible
                world.put(what, mine.node)
