"""Where claims and disks lead pods, as transcripts."""

from typing import Any

from kubelite.meta.types import Obj
from kubelite.scheduler.placement import place
from kubelite.scheduler.volumes import Binding
from tests.scheduler.objects import HOST, ZONE, World, node, pod

LATE = "WaitForFirstConsumer"
DRIVER = "csi.example.com"


def terms(key: str, *values: str) -> Obj:
    return {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": "In", "values": [*values]}]}]}}


class Storage(World):
    """A world in which storage comes and goes."""

    def _changed(self) -> None:
        self.framework.forget(lambda template: True)

    def storage_class(self, name: str, provisioner: str = DRIVER, mode: str = LATE, **more: Any) -> None:
        obj = {"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode, **more}
        self.volumes.class_changed(None, obj)
        self._changed()

    def claim(
        self, name: str, size: str = "1Gi", *, volume: str = "", annotations: dict[str, str] | None = None, **spec: Any
    ) -> Obj:
        marks = {"pv.kubernetes.io/bind-completed": "yes"} if volume else {}
        meta = {"name": name, "namespace": "default", "uid": f"uid-{name}", "annotations": {**marks, **(annotations or {})}}
        wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, "volumeName": volume, **spec}
        claim = {"metadata": meta, "spec": wanted, "status": {}}
        self.volumes.claim_changed(None, claim)
        self._changed()
        return claim

    def volume(self, name: str, *hosts: str, size: str = "1Gi", labels: dict[str, str] | None = None, **spec: Any) -> None:
        offer = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, **spec}
        if hosts:
            offer["nodeAffinity"] = terms(HOST, *hosts)
        obj = {"metadata": {"name": name, "labels": labels or {}}, "spec": offer, "status": {"phase": "Available"}}
        self.volumes.volume_changed(None, obj)
        self._changed()

    def limit(self, name: str, count: int) -> None:
        drivers = [{"name": DRIVER, "nodeID": name, "allocatable": {"count": count}}]
        self.volumes.csi_node_changed(None, {"metadata": {"name": name}, "spec": {"drivers": drivers}})
        self._changed()

    def bindings(self, obj: Obj, name: str) -> list[Binding]:
        return place(self.volumes, self.snapshot, self.templates.of(obj)).bindings(self.snapshot.rows[name])

    def promise(self, obj: Obj, name: str) -> list[str | None]:
        """As when the pod was given this node; the names of the volumes that its claims get."""
        bindings = self.bindings(obj, name)
        self.volumes.promise(bindings, name)
        self._changed()
        return [None if b.volume is None else b.volume["metadata"]["name"] for b in bindings]


def user(*claims: str, name: str = "a", **more: Any) -> Obj:
    volumes = [{"name": f"v{i}", "persistentVolumeClaim": {"claimName": claim}} for i, claim in enumerate(claims)]
    return pod(name, volumes=volumes, **more)


def two_nodes() -> Storage:
    return Storage(node("n1", labels={ZONE: "a"}), node("n2", labels={ZONE: "b"}))


class TestClaims:
    def test_one_that_is_not_there_or_not_bound_holds_the_pod_back(self) -> None:
        world = Storage(node("n1"))
        assert world.place(user("data")) == '0/1 nodes are available: persistentvolumeclaim "data" not found. not found'
        world.claim("data")
        refused = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
        assert world.place(user("data")) == refused

    def test_one_of_an_ephemeral_volume_is_waited_for_and_must_be_the_pods_own(self) -> None:
        world = Storage(node("n1"))
        obj = pod("a", volumes=[{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}}])
        waiting = 'waiting for ephemeral volume controller to create the persistentvolumeclaim "a-scratch"'
        assert world.place(obj) == f"0/1 nodes are available: {waiting}. not found"
        claim = world.claim("a-scratch", volume="v1")
        assert "PVC default/a-scratch was not created for pod default/a (pod is not owner)" in world.place(obj)
        owner = {"kind": "Pod", "name": "a", "uid": obj["metadata"]["uid"], "controller": True}
        claim["metadata"]["ownerReferences"] = [owner]
        world.volume("v1")
        assert world.place(obj) == "n1"

    def test_a_bound_one_leads_to_the_nodes_of_its_volume(self) -> None:
        world = two_nodes()
        world.claim("data", volume="v1")
        assert world.place(user("data")) == '0/2 nodes are available: persistentvolume "v1" not found. not found'
        world.volume("v1", "n2")
        assert world.possible(user("data")) == {"n2"}

    def test_a_waiting_one_takes_a_fitting_volume_once(self) -> None:
        world = two_nodes()
        world.storage_class("local", "kubernetes.io/no-provisioner")
        for name in ("one", "two"):
            world.claim(name, "500Mi", storageClassName="local")
        world.volume("v1", "n2", storageClassName="local")
        assert world.place(user("one")) == "n2"
        assert world.promise(user("one"), "n2") == ["v1"]
        none = "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."
        assert world.place(user("two")) == none

    def test_the_smallest_volume_that_fits_is_taken_and_one_that_is_kept_before_all(self) -> None:
        world = Storage(node("n1"))
        world.storage_class("local", "kubernetes.io/no-provisioner")
        world.claim("data", "2Gi", storageClassName="local")
        for name, size in (("small", "1Gi"), ("large", "8Gi"), ("right", "2Gi")):
            world.volume(name, size=size, storageClassName="local")
        assert world.promise(user("data"), "n1") == ["right"]
        world.claim("other", "2Gi", storageClassName="local")
        kept = {"namespace": "default", "name": "other"}
        world.volume("kept", size="4Gi", storageClassName="local", claimRef=kept)
        assert world.promise(user("other"), "n1") == ["kept"]

    def test_two_waiting_ones_of_a_pod_need_two_volumes_on_one_node(self) -> None:
        world = two_nodes()
        world.storage_class("local", "kubernetes.io/no-provisioner")
        world.claim("one", storageClassName="local")
        world.claim("two", "2Gi", storageClassName="local")
        world.volume("a1", "n1", size="4Gi", storageClassName="local")
        world.volume("b1", "n2", size="4Gi", storageClassName="local")
        assert world.possible(user("one", "two")) == set()
        world.volume("b2", "n2", storageClassName="local")
        assert world.possible(user("one", "two")) == {"n2"}
        assert world.promise(user("one", "two"), "n2") == ["b2", "b1"]

    def test_one_that_can_be_provisioned_goes_where_its_class_allows(self) -> None:
        world = two_nodes()
        zones = [{"matchLabelExpressions": [{"key": ZONE, "values": ["b"]}]}]
        world.storage_class("fast")
        world.claim("data", storageClassName="fast")
        assert world.possible(user("data")) == {"n1", "n2"}
        world.storage_class("fast", allowedTopologies=zones)
        assert world.possible(user("data")) == {"n2"}

    def test_one_that_is_provisioned_for_a_node_leads_there(self) -> None:
        world = two_nodes()
        world.storage_class("fast")
        world.claim("data", storageClassName="fast")
        assert world.promise(user("data"), "n1") == [None]
        assert world.possible(user("data", name="b")) == {"n1"}
        world.volumes.forget(world.bindings(user("data"), "n1"))
        world.claim("data", storageClassName="fast", annotations={"volume.kubernetes.io/selected-node": "n2"})
        assert world.possible(user("data", name="b")) == {"n2"}

    def test_a_driver_that_tells_its_space_is_believed(self) -> None:
        world = two_nodes()
        world.storage_class("fast")
        world.claim("data", "5Gi", storageClassName="fast")
        world.volumes.driver_changed(None, {"metadata": {"name": DRIVER}, "spec": {"storageCapacity": True}})
        world._changed()
        assert world.place(user("data")) == "0/2 nodes are available: 2 node(s) did not have enough free storage."
        meta = {"name": "c", "namespace": "default"}
        topology = {"matchLabels": {ZONE: "b"}}
        capacity = {"metadata": meta, "storageClassName": "fast", "nodeTopology": topology, "capacity": "10Gi"}
        world.volumes.capacity_changed(None, capacity)
        world._changed()
        assert world.possible(user("data")) == {"n2"}

    def test_one_for_one_pod_alone_holds_a_second_one_back(self) -> None:
        world = two_nodes()
        world.claim("data", volume="v1", accessModes=["ReadWriteOncePod"])
        world.volume("v1", "n2")
        assert world.place(user("data")) == "n2"
        assert "2 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod" in world.place(user("data", name="b"))
        world.snapshot.remove_pod("uid-default-a")
        assert world.place(user("data", name="b")) == "n2"


class TestZones:
    def test_a_volume_is_used_in_the_zones_that_its_labels_name(self) -> None:
        world = Storage(*(node(f"n{zone}", labels={ZONE: zone}) for zone in "abc"), node("bare"))
        world.claim("data", volume="v1")
        world.volume("v1", labels={ZONE: "a__b"})
        assert world.possible(user("data")) == {"na", "nb", "bare"}
        world.claim("old", volume="v2")
        world.volume("v2", labels={"failure-domain.beta.kubernetes.io/zone": "c"})
        assert world.possible(user("old", name="b")) == {"nc", "bare"}
        message = world.place(user("data", "old", name="c", nodeSelector={ZONE: "a"}))
        assert "1 node(s) had no available volume zone" in message

    def test_a_label_that_names_no_zone_is_nothing(self) -> None:
        world = two_nodes()
        world.claim("data", volume="v1")
        world.volume("v1", labels={ZONE: "a__"})
        assert world.possible(user("data")) == {"n1", "n2"}


class TestLimits:
    def test_a_node_takes_so_many_volumes_of_a_driver(self) -> None:
        world = two_nodes()
        world.limit("n1", 1)
        for i in range(3):
            world.claim(f"c{i}", volume=f"v{i}")
            world.volume(f"v{i}", csi={"driver": DRIVER, "volumeHandle": f"h{i}"})
        world.put(user("c0", name="old"), "n1")
        assert world.possible(user("c1")) == {"n2"}
        assert world.possible(user("c0", name="b")) == {"n1", "n2"}  # it is there already
        world.limit("n2", 1)
        assert "1 node(s) exceed max volume count" in world.place(user("c1", "c2", nodeSelector={ZONE: "b"}))

    def test_what_is_attached_counts_and_so_does_what_will_be_provisioned(self) -> None:
        world = Storage(node("n1"))
        world.limit("n1", 2)
        world.volume("v0", csi={"driver": DRIVER, "volumeHandle": "h0"})
        spec = {"nodeName": "n1", "attacher": DRIVER, "source": {"persistentVolumeName": "v0"}}
        attachment = {"metadata": {"name": "x"}, "spec": spec}
        world.volumes.attachment_changed(None, attachment)
        world.storage_class("fast")
        for name in ("one", "two"):
            world.claim(name, storageClassName="fast")
        assert world.possible(user("one")) == {"n1"}
        assert world.place(user("one", "two")) == "0/1 nodes are available: 1 node(s) exceed max volume count."
        world.volumes.attachment_changed(attachment, None)
        world._changed()
        assert world.place(user("one", "two")) == "n1"


class TestDisks:
    def disk(self, name: str, **source: Any) -> Obj:
        return pod(name, volumes=[{"name": "disk", **source}])

    def test_a_disk_has_one_user_on_a_node_unless_all_only_read(self) -> None:
        world = Storage(node("n1"))
        world.put(self.disk("old", gcePersistentDisk={"pdName": "d", "readOnly": True}), "n1")
        assert world.place(self.disk("a", gcePersistentDisk={"pdName": "d"})) == (
            "0/1 nodes are available: 1 node(s) had no available disk."
        )
        assert world.place(self.disk("b", gcePersistentDisk={"pdName": "d", "readOnly": True})) == "n1"
        assert world.place(self.disk("c", gcePersistentDisk={"pdName": "e"})) == "n1"

    def test_one_of_amazon_has_one_user_even_then(self) -> None:
        world = Storage(node("n1"))
        source = {"awsElasticBlockStore": {"volumeID": "v", "readOnly": True}}
        world.put(self.disk("old", **source), "n1")
        assert "no available disk" in world.place(self.disk("a", **source))

    def test_images_of_ceph_are_the_same_where_a_monitor_is(self) -> None:
        world = Storage(node("n1"))
        image = {"pool": "p", "image": "i"}
        world.put(self.disk("old", rbd={**image, "monitors": ["m1", "m2"]}), "n1")
        assert "no available disk" in world.place(self.disk("a", rbd={**image, "monitors": ["m2", "m3"]}))
        assert world.place(self.disk("b", rbd={**image, "monitors": ["m3"]})) == "n1"


def test_a_pod_with_resource_claims_is_held_back_and_told_why() -> None:
    world = World(node("n1"))
    message = world.place(pod("a", resourceClaims=[{"name": "gpu", "resourceClaimName": "g"}]))
    assert message == "0/1 nodes are available: pod has resource claims, for which this scheduler allocates no devices. not found"
