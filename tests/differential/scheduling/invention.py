"""Scenarios made up by chance: small clusters, in which a few things at a time are chosen among what scheduling knows.

Each scenario has some topics, so that what they do to each other shows, and not all at once, where nothing would fit anywhere.
A seed gives the same scenarios each time.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any

from tests.differential.scheduling.scenario import Scenario, parse

ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
HOST = "kubernetes.io/hostname"
APPS = ("web", "db", "cache")
SPACES = ("default", "default", "default", "team-a", "team-b")
TAINTS = (("dedicated", "db"), ("dedicated", "web"), ("slow", ""), ("gpu", "true"))
EFFECTS = ("NoSchedule", "NoSchedule", "PreferNoSchedule", "NoExecute")
IMAGES = {"web:1": 40_000_000, "db:2": 700_000_000, "registry.example/cache": 300_000_000, "tool": 5_000_000}
GPU = "example.com/gpu"
LATE = {"provisioner": "csi.example.com", "volumeBindingMode": "WaitForFirstConsumer"}

Brief = dict[str, Any]


class Invention:
    """One scenario in the making."""

    def __init__(self, chance: random.Random, eventful: float) -> None:
        self.chance, self.eventful = chance, eventful
        self.topics = set(chance.sample(sorted(TOPICS), chance.choice((1, 2, 2, 3, 3, 4))))
        self.nodes = [f"n{i}" for i in range(1, chance.choice((3, 3, 4, 5, 6, 8)))]
        self.given: list[Brief] = []
        self.steps: list[Brief] = []
        self.claims: list[tuple[str, str]] = []

    def maybe(self, share: float) -> bool:
        return self.chance.random() < share

    def has(self, topic: str, share: float = 1.0) -> bool:
        return topic in self.topics and self.maybe(share)

    def one(self, *values: Any) -> Any:
        return self.chance.choice(values)

    # Nodes

    def node(self, name: str) -> Brief:
        node: Brief = {"name": name, "labels": self.node_labels(), "spec": {}}
        node["allocatable"] = {"cpu": self.one("1", "2", "4", "4", "8"), "memory": self.one("2Gi", "4Gi", "8Gi", "16Gi")}
        if self.has("resources", 0.3):
            node["allocatable"]["pods"] = self.one("1", "2", "3")
        if self.has("resources", 0.5):
            node["allocatable"] |= {"ephemeral-storage": self.one("1Gi", "10Gi"), GPU: self.one("0", "1", "4")}
        if self.has("resources", 0.3):
            node["allocatable"]["hugepages-2Mi"] = "64Mi"
        if self.has("resources", 0.05):
            node["allocatable"] |= self.one({"cpu": "0"}, {"memory": "0"})
        if self.has("taints", 0.6):
            picked = self.chance.sample(TAINTS, self.one(1, 1, 2))
            effects = {key_value: self.one(*EFFECTS) for key_value in picked}
            taints = {
                (key, effect): {"key": key, "effect": effect, **({"value": value} if value else {})}
                for (key, value), effect in effects.items()
            }
            node["spec"]["taints"] = [*taints.values()]
        if self.has("taints", 0.15):
            node["spec"]["unschedulable"] = True
            if self.maybe(0.5):
                cordon = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
                node["spec"]["taints"] = [*node["spec"].get("taints", []), cordon]
        if self.has("images"):
            held = self.chance.sample(sorted(IMAGES), self.one(0, 1, 2, 3))
            node["status"] = {"images": [{"names": [n if ":" in n else f"{n}:latest"], "sizeBytes": IMAGES[n]} for n in held]}
        return node

    def node_labels(self) -> dict[str, str | None]:
        labels: dict[str, str | None] = {}
        if self.maybe(0.85):
            labels[ZONE] = self.one("a", "a", "b", "c")
        if self.maybe(0.4):
            labels[REGION] = self.one("r1", "r2")
        if self.maybe(0.6):
            labels["disk"] = self.one("ssd", "hdd")
        if self.maybe(0.5):
            labels["size"] = self.one("1", "2", "9", "10", "x", "007")
        if self.maybe(0.05):
            labels[HOST] = None
        return labels

    # Pods

    def pod(self, name: str, *, node: str = "") -> Brief:
        space = self.one(*SPACES) if self.topics & {"affinity", "spreading"} else "default"
        spec: Brief = {}
        pod: Brief = {"name": name, "namespace": space, "labels": self.pod_labels(), "spec": spec}
        self.resources(pod)
        if node:
            pod["node"] = node
            pod["status"] = {"phase": "Running", "startTime": f"2026-01-0{self.chance.randrange(1, 9)}T00:00:00Z"}
            if self.maybe(0.08):
                pod["deletionTimestamp"] = "2026-01-09T00:00:00Z"
        if self.has("priority", 0.7):
            spec["priorityClassName"] = (
                self.one("low", "low", "middle", "high") if node else self.one("low", "middle", "high", "polite")
            )
        if self.has("taints", 0.6):
            spec["tolerations"] = [self.toleration() for _ in range(self.one(1, 1, 2))]
        affinity: Brief = {}
        if self.has("nodes", 0.5):
            spec["nodeSelector"] = self.one({"disk": "ssd"}, {ZONE: "a"}, {"disk": "hdd", ZONE: "b"}, {"size": "9"})
        if self.has("nodes", 0.7):
            affinity["nodeAffinity"] = self.node_affinity()
        if self.has("affinity", 0.7):
            affinity |= self.pod_affinity()
        if affinity:
            spec["affinity"] = affinity
        if self.has("spreading", 0.7 if not node else 0.1):
            spec["topologySpreadConstraints"] = self.spreading()
        if self.has("ports", 0.7):
            spec.setdefault("containers", [{"name": "main", "image": "web:1"}])[0]["ports"] = self.ports()
        if self.has("disks", 0.7):
            spec["volumes"] = [{"name": f"disk-{i}", **self.disk()} for i in range(self.one(1, 1, 2))]
        if self.has("volumes", 0.8 if not node else 0.2) and self.claims:
            mine = [claim for at, claim in self.claims if at == space]
            used = self.chance.sample(mine, min(len(mine), self.one(1, 1, 2)))
            claims = [{"name": f"c{i}", "persistentVolumeClaim": {"claimName": claim}} for i, claim in enumerate(used)]
            if self.maybe(0.04):
                claims.append({"name": "gone", "persistentVolumeClaim": {"claimName": "missing"}})
            spec["volumes"] = [*spec.get("volumes", []), *claims]
        if self.has("owners", 0.6):
            pod["ownerReferences"] = [self.owner()]
        if not node and self.maybe(0.03):
            spec["schedulingGates"] = [{"name": "example.com/quota"}]
        return pod

    def pod_labels(self) -> dict[str, str]:
        labels = {"app": self.one(*APPS)} if self.maybe(0.9) else {}
        if self.maybe(0.5):
            labels["version"] = self.one("1", "2")
        return labels

    def amounts(self) -> dict[str, str]:
        amounts: dict[str, str] = {}
        if self.maybe(0.75):
            amounts["cpu"] = self.one("0", "100m", "250m", "500m", "900m", "1", "1500m", "2")
        if self.maybe(0.6):
            amounts["memory"] = self.one("0", "64Mi", "200Mi", "512Mi", "1Gi", "3Gi", "1500M")
        if self.has("resources", 0.25):
            amounts["ephemeral-storage"] = self.one("100Mi", "2Gi", "20Gi")
        return amounts

    def resources(self, pod: Brief) -> None:
        spec = pod["spec"]
        containers: list[Brief] = []
        for i in range(self.one(1, 1, 1, 2)):
            amounts = self.amounts()
            limits: Brief = {}
            if self.has("resources", 0.25):
                limits = amounts[GPU] = self.one("1", "2")
                limits = {GPU: amounts[GPU]}
            containers.append({"name": f"c{i}", "image": self.one(*IMAGES), "resources": {"requests": amounts, "limits": limits}})
        spec["containers"] = containers
        if self.has("resources", 0.3):
            inits = []
            for i in range(self.one(1, 2)):
                init = {"name": f"i{i}", "image": self.one(*IMAGES), "resources": {"requests": self.amounts()}}
                if self.maybe(0.4):
                    init["restartPolicy"] = "Always"
                inits.append(init)
            spec["initContainers"] = inits
        if self.has("resources", 0.2):
            spec["resources"] = {"requests": self.one({"cpu": "2"}, {"memory": "2Gi"}, {"cpu": "3", "memory": "1Gi"})}
            for container in [*containers, *spec.get("initContainers", [])]:  # those of a pod must cover its containers'
                requests = container["resources"]["requests"]
                container["resources"]["requests"] = {
                    k: "100m" if k == "cpu" else "64Mi" for k in requests if k in ("cpu", "memory")
                }
                container["resources"]["limits"] = {}
        if self.has("resources", 0.15):
            spec["runtimeClassName"] = "heavy"

    def toleration(self) -> Brief:
        key, value = self.one(*TAINTS)
        toleration: Brief = self.one(
            {"key": key, "operator": "Exists"},
            {"key": key, "operator": "Equal", "value": value},
            {"key": key, "value": value},
            {"operator": "Exists"},
        )
        if self.maybe(0.6):
            toleration = {**toleration, "effect": self.one(*EFFECTS)}
        return toleration

    def expression(self) -> Brief:
        return self.one(  # type: ignore[no-any-return]
            {"key": "disk", "operator": "In", "values": ["ssd"]},
            {"key": "disk", "operator": "NotIn", "values": ["ssd"]},
            {"key": ZONE, "operator": "In", "values": ["a", "b"]},
            {"key": ZONE, "operator": "Exists"},
            {"key": "size", "operator": "DoesNotExist"},
            {"key": "size", "operator": "Gt", "values": [self.one("1", "5", "8")]},
            {"key": "size", "operator": "Lt", "values": [self.one("9", "10")]},
        )

    def node_term(self) -> Brief:
        if self.maybe(0.2):
            operator = self.one("In", "In", "NotIn")
            fields = [{"key": "metadata.name", "operator": operator, "values": [self.one(*self.nodes, "n99")]}]
            if self.maybe(0.1):
                fields.append({"key": "metadata.name", "operator": "In", "values": [self.one(*self.nodes)]})
            return {"matchFields": fields, **({"matchExpressions": [self.expression()]} if self.maybe(0.2) else {})}
        return {"matchExpressions": [self.expression() for _ in range(self.one(1, 1, 2))]}

    def node_affinity(self) -> Brief:
        found: Brief = {}
        if self.maybe(0.6):
            terms = [self.node_term() for _ in range(self.one(1, 1, 2))]
            found["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
        if self.maybe(0.6):
            found["preferredDuringSchedulingIgnoredDuringExecution"] = [
                {"weight": self.one(1, 5, 30, 100), "preference": self.node_term() if self.maybe(0.9) else {}}
                for _ in range(self.one(1, 2, 3))
            ]
        return found

    def selector(self) -> Brief | None:
        return self.one(  # type: ignore[no-any-return]
            {"matchLabels": {"app": self.one(*APPS)}},
            {"matchLabels": {"app": self.one(*APPS)}},
            {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]},
            {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]},
            {"matchExpressions": [{"key": "version", "operator": "Exists"}]},
            {"matchLabels": {"app": "web", "version": "1"}},
            {},
            None,
        )

    def pod_term(self) -> Brief:
        term: Brief = {"topologyKey": self.one(HOST, ZONE, ZONE, REGION, "disk")}
        selector = self.selector()
        if selector is not None:
            term["labelSelector"] = selector
        if self.maybe(0.25):
            term["namespaces"] = self.one(["team-a"], ["team-a", "team-b"], ["default"])
        if self.maybe(0.25):
            term["namespaceSelector"] = self.one(
                {}, {"matchLabels": {"team": "a"}}, {"matchExpressions": [{"key": "team", "operator": "Exists"}]}
            )
        if selector and self.maybe(0.2):
            term[self.one("matchLabelKeys", "mismatchLabelKeys")] = ["version"]
            if "version" in selector.get("matchLabels", {}) or any(
                e["key"] == "version" for e in selector.get("matchExpressions", ())
            ):
                del term["labelSelector"]
                term["labelSelector"] = {"matchLabels": {"app": "web"}}
        return term

    def pod_affinity(self) -> Brief:
        found: Brief = {}
        for side in ("podAffinity", "podAntiAffinity"):
            if not self.maybe(0.5):
                continue
            rules: Brief = {}
            if self.maybe(0.5):
                rules["requiredDuringSchedulingIgnoredDuringExecution"] = [self.pod_term() for _ in range(self.one(1, 1, 2))]
            if self.maybe(0.6):
                rules["preferredDuringSchedulingIgnoredDuringExecution"] = [
                    {"weight": self.one(1, 10, 50, 100), "podAffinityTerm": self.pod_term()} for _ in range(self.one(1, 2))
                ]
            found[side] = rules
        return found

    def spreading(self) -> list[Brief]:
        found = []
        for key in self.chance.sample((HOST, ZONE, REGION, "disk"), self.one(1, 1, 2)):
            constraint: Brief = {
                "topologyKey": key,
                "maxSkew": self.one(1, 1, 2, 3),
                "whenUnsatisfiable": self.one("DoNotSchedule", "ScheduleAnyway"),
            }
            selector = self.selector()
            if selector is not None:
                constraint["labelSelector"] = selector
            if constraint["whenUnsatisfiable"] == "DoNotSchedule" and self.maybe(0.3):
                constraint["minDomains"] = self.one(1, 2, 3, 5)
            if self.maybe(0.3):
                constraint["nodeAffinityPolicy"] = self.one("Honor", "Ignore")
            if self.maybe(0.3):
                constraint["nodeTaintsPolicy"] = self.one("Honor", "Ignore")
            if selector and "version" not in str(selector) and self.maybe(0.25):
                constraint["matchLabelKeys"] = ["version"]
            found.append(constraint)
        return found

    def ports(self) -> list[Brief]:
        found = {}
        for _ in range(self.one(1, 1, 2)):
            port: Brief = {"containerPort": 80, "hostPort": self.one(80, 80, 8080), "protocol": self.one("TCP", "TCP", "UDP")}
            if self.maybe(0.4):
                port["hostIP"] = self.one("10.0.0.1", "10.0.0.2", "0.0.0.0")
            found[port["hostPort"], port["protocol"], port.get("hostIP")] = port
        return [*found.values()]

    def disk(self) -> Brief:
        read_only = {"readOnly": True} if self.maybe(0.5) else {}
        return self.one(  # type: ignore[no-any-return]
            {"gcePersistentDisk": {"pdName": self.one("d1", "d2"), **read_only}},
            {"awsElasticBlockStore": {"volumeID": self.one("v1", "v2"), **read_only}},
            {"iscsi": {"targetPortal": "10.0.0.9", "iqn": self.one("iqn.2026-01.a:1", "iqn.2026-01.a:2"), "lun": 0, **read_only}},
            {
                "rbd": {
                    "monitors": self.one(["m1", "m2"], ["m2"], ["m3"]),
                    "image": self.one("i1", "i2"),
                    "pool": self.one("p1", "p2"),
                    **read_only,
                }
            },
        )

    def owner(self) -> Brief:
        version, kind = self.one(
            ("apps/v1", "ReplicaSet"), ("apps/v1", "StatefulSet"), ("v1", "ReplicationController"), ("batch/v1", "Job")
        )
        return {
            "apiVersion": version,
            "kind": kind,
            "name": "own",
            "uid": "00000000-0000-0000-0000-000000000001",
            "controller": True,
        }

    # The rest of the cluster

    def priorities(self) -> None:
        values = {"low": 10, "middle": 100, "high": 1000}
        classes: list[Brief] = [{"name": name, "value": value} for name, value in values.items()]
        classes.append({"name": "polite", "value": 500, "preemptionPolicy": "Never"})
        self.given.append({"PriorityClass": classes})
        for i in range(self.one(0, 1, 2)):
            status = {"disruptionsAllowed": self.one(0, 0, 1, 2), "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}
            spec = {"minAvailable": 1, "selector": self.one({"matchLabels": {"app": self.one(*APPS)}}, {})}
            self.given.append({"PodDisruptionBudget": {"name": f"budget-{i}", "spec": spec, "status": status}})

    def owners(self) -> None:
        selector = {"app": self.one(*APPS)}
        if self.maybe(0.7):
            ports = [{"port": 80}]
            self.given.append({"Service": {"name": "svc", "spec": {"selector": selector, "ports": ports}}})
        self.given.append({"ReplicaSet": {"name": "own", "spec": {"selector": {"matchLabels": {"app": self.one(*APPS)}}}}})
        self.given.append(
            {"StatefulSet": {"name": "own", "spec": {"serviceName": "svc", "selector": {"matchLabels": {"version": "1"}}}}}
        )
        template = {"metadata": {"labels": selector}, "spec": {"containers": [{"name": "main", "image": "web:1"}]}}
        self.given.append({"ReplicationController": {"name": "own", "spec": {"selector": selector, "template": template}}})

    def storage(self) -> None:
        driver = "csi.example.com"
        topologies = [{"matchLabelExpressions": [{"key": ZONE, "values": self.one(["a"], ["a", "b"])}]}]
        classes: list[Brief] = [
            {
                "name": "late",
                "provisioner": driver,
                "volumeBindingMode": "WaitForFirstConsumer",
                **({"allowedTopologies": topologies} if self.maybe(0.4) else {}),
            },
            {"name": "local", "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"},
            {"name": "now", "provisioner": driver, "volumeBindingMode": "Immediate"},
        ]
        self.given.append({"StorageClass": classes})
        if self.maybe(0.5):
            self.given.append(
                {"CSIDriver": {"name": driver, "spec": {"storageCapacity": self.maybe(0.7), "attachRequired": True}}}
            )
            for i in range(self.one(0, 1, 2)):
                topology = self.one(
                    {"matchLabels": {ZONE: self.one("a", "b")}}, {"matchLabels": {HOST: self.one(*self.nodes)}}, {}
                )
                capacity = {
                    "name": f"capacity-{i}",
                    "storageClassName": "late",
                    "nodeTopology": topology,
                    "capacity": self.one("1Gi", "20Gi"),
                }
                self.given.append(
                    {"CSIStorageCapacity": {**capacity, **({"maximumVolumeSize": "5Gi"} if self.maybe(0.3) else {})}}
                )
        volumes = [f"pv{i}" for i in range(self.one(2, 3, 5))]
        for name in volumes:
            self.given.append({"PersistentVolume": self.volume(name, self.one("local", "local", "late"))})
        for i in range(self.one(2, 3, 4)):
            self.claim(f"claim-{i}", volumes)
        if self.maybe(0.6):
            for name in self.nodes:
                if self.maybe(0.7):
                    limit = {"allocatable": {"count": self.one(0, 1, 2)}} if self.maybe(0.8) else {}
                    drivers = [{"name": driver, "nodeID": name, **limit}]
                    self.given.append({"CSINode": {"name": name, "spec": {"drivers": drivers}}})
            if self.maybe(0.4):
                spec = {
                    "attacher": driver,
                    "nodeName": self.one(*self.nodes),
                    "source": {"persistentVolumeName": self.one(*volumes)},
                }
                self.given.append({"VolumeAttachment": {"name": "attached", "spec": spec, "status": {"attached": True}}})

    def volume(self, name: str, storage_class: str) -> Brief:
        spec: Brief = {
            "capacity": {"storage": self.one("1Gi", "2Gi", "10Gi")},
            "accessModes": self.one(["ReadWriteOnce"], ["ReadWriteOnce", "ReadOnlyMany"], ["ReadWriteOncePod"]),
        }
        spec["storageClassName"] = storage_class
        spec |= self.one({"hostPath": {"path": "/data"}}, {"csi": {"driver": "csi.example.com", "volumeHandle": f"h-{name}"}})
        if self.maybe(0.7):
            expression = self.one(
                {"key": HOST, "operator": "In", "values": [self.one(*self.nodes)]},
                {"key": ZONE, "operator": "In", "values": [self.one("a", "b")]},
            )
            spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
        if self.maybe(0.1):
            spec["volumeMode"] = "Block"
        labels = self.one(
            {},
            {},
            {ZONE: self.one("a", "b", "a__b")},
            {REGION: "r1"},
            {"failure-domain.beta.kubernetes.io/zone": "a"},
            {"tier": "gold"},
        )
        return {
            "name": name,
            "labels": labels,
            "spec": spec,
            "status": {"phase": self.one("Available", "Available", "Available", "Released")},
        }

    def claim(self, name: str, volumes: list[str]) -> None:
        space = "default"
        spec: Brief = {
            "accessModes": [self.one("ReadWriteOnce", "ReadWriteOnce", "ReadWriteOncePod")],
            "resources": {"requests": {"storage": self.one("1Gi", "2Gi", "5Gi")}},
        }
        claim: Brief = {"name": name, "namespace": space, "spec": spec}
        spec["storageClassName"] = self.one("late", "late", "local", "local", "local", "now", "nowhere")
        if self.maybe(0.15):
            spec["selector"] = {"matchLabels": {"tier": "gold"}}
        if self.maybe(0.1):
            spec["volumeMode"] = "Block"
        if self.maybe(0.25):
            bound = f"bound-{name}"
            if self.maybe(0.95):
                volume = self.volume(bound, spec["storageClassName"])
                volume["spec"]["claimRef"] = {"namespace": space, "name": name}
                volume["status"] = {"phase": "Bound"}
                self.given.append({"PersistentVolume": volume})
            spec["volumeName"] = bound
            if self.maybe(0.9):
                claim["annotations"] = {"pv.kubernetes.io/bind-completed": "yes"}
            claim["status"] = {"phase": self.one("Bound", "Bound", "Bound", "Bound", "Lost")}
        elif self.maybe(0.1):
            claim["annotations"] = {"volume.kubernetes.io/selected-node": self.one(*self.nodes)}
        elif self.maybe(0.15):
            reserved = f"for-{name}"
            volume = self.volume(reserved, spec["storageClassName"])
            volume["spec"]["claimRef"] = {"namespace": space, "name": name}
            self.given.append({"PersistentVolume": volume})
        self.claims.append((space, name))
        self.given.append({"PersistentVolumeClaim": claim})

    # What happens once pods wait

    def event(self) -> Brief:
        old = [pod for brief in self.given for pod in [brief.get("Pod")] if pod]
        waiting = [step["create"]["Pod"] for step in self.steps if "Pod" in step.get("create", {})]
        choices: list[Callable[[], Brief]] = [
            lambda: {"update": {"Node": self.node(self.one(*self.nodes))}},
            lambda: {"update": {"Node": self.node(self.one(*self.nodes))}},
            lambda: {"create": {"Node": self.node(f"late-{len(self.steps)}")}},
            lambda: {"delete": {"Node": {"name": self.one(*self.nodes)}}},
            lambda: {"create": {"Pod": self.pod(f"late-{len(self.steps)}", node=self.one(*self.nodes))}},
            lambda: {"update": {"Namespace": {"name": "team-b", "labels": {"team": self.one("a", "b", "c")}}}},
            lambda: {"update": {"Pod": {**_named(self.one(*waiting)), "spec": {"schedulingGates": None}}}},
        ]
        if old:
            choices += [lambda: {"delete": {"Pod": _named(self.one(*old))}}] * 3
            choices.append(lambda: {"update": {"Pod": {**_named(self.one(*old)), "labels": self.pod_labels()}}})
        if "volumes" in self.topics:
            choices.append(
                lambda: {"create": {"PersistentVolume": self.volume(f"late-{len(self.steps)}", self.one("local", "late"))}}
            )
            if not any("StorageClass" in step.get("create", {}) for step in self.steps):
                choices.append(lambda: {"create": {"StorageClass": {**LATE, "name": "nowhere"}}})
        return self.one(*choices)()

    # Altogether

    def scenario(self, name: str) -> Scenario:
        namespaces = [{"name": "team-a", "labels": {"team": "a"}}, {"name": "team-b", "labels": self.one({"team": "b"}, {})}]
        self.given.append({"Namespace": namespaces})
        self.given.append({"Node": [self.node(node) for node in self.nodes]})
        for topic in sorted(self.topics):
            TOPICS[topic](self)
        if "resources" in self.topics:
            self.given.append(
                {
                    "RuntimeClass": {
                        "name": "heavy",
                        "handler": "heavy",
                        "overhead": {"podFixed": {"cpu": "250m", "memory": "128Mi"}},
                    }
                }
            )
        for i in range(self.one(0, 2, 4, 6, 10)):
            self.given.append({"Pod": self.pod(f"old-{i}", node=self.one(*self.nodes, *self.nodes, *self.nodes, "unknown"))})
        for i in range(self.one(1, 2, 3, 4)):
            self.steps.append({"create": {"Pod": self.pod(f"new-{i}")}})
        if self.maybe(self.eventful):
            for _ in range(self.one(1, 2, 3)):
                self.steps.append(self.event())
        return parse(name, {"given": self.given, "steps": self.steps})


def _named(pod: Brief) -> Brief:
    return {"name": pod["name"], "namespace": pod["namespace"]}


def _nothing(invention: Invention) -> None:
    """What the topic means is in nodes and pods alone."""


TOPICS: Mapping[str, Callable[[Invention], None]] = {
    "affinity": _nothing,
    "disks": _nothing,
    "images": _nothing,
    "nodes": _nothing,
    "owners": Invention.owners,
    "ports": _nothing,
    "priority": Invention.priorities,
    "resources": _nothing,
    "spreading": _nothing,
    "taints": _nothing,
    "volumes": Invention.storage,
}


def invent(seed: int, eventful: float = 0.3) -> Scenario:
    """`eventful` is the share of scenarios in which more happens than that pods come."""
    return Invention(random.Random(seed), eventful).scenario(f"seed {seed}")
