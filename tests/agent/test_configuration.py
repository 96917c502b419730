"""From specs to configurations: environments, names, resources, security, images' credentials."""

import base64
from typing import Any

import orjson
import pytest

from kubelite.agent import downward, environment, hosts, images, resources, security
from kubelite.agent.environment import Facts
from kubelite.agent.faults import ConfigFault
from kubelite.agent.hosts import Dns
from kubelite.agent.objects import Objects
from kubelite.meta.types import Obj
from runtimes.interface import Image, NamespaceMode
from tests.agent.pods import container, pod

IMAGE = Image("sha256:1", (), (), 1)


def objects(**found: list[Obj]) -> Objects:
    made = Objects()
    for resource, items in found.items():
        for number, item in enumerate(items):
            meta = {"namespace": "default", "resourceVersion": str(number), **item["metadata"]}
            made.changed(resource, {**item, "metadata": meta})
    return made


def service(name: str, ip: str = "10.96.0.9", namespace: str = "default") -> Obj:
    spec = {"clusterIP": ip, "ports": [{"port": 80, "name": "http", "protocol": "TCP"}]}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def env(entries: list[Obj], there: Objects | None = None, **fields: Any) -> dict[str, str]:
    spec = container("c", env=entries, **fields)
    facts = Facts(("10.0.0.5",), ("192.0.2.7",), {"cpu": "4", "memory": "8Gi"})
    return environment.of_container(pod(spec), spec, there or Objects(), facts)


def test_variables_expand_what_was_set_before_them() -> None:
    entries = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(C)-$$(A)"}, {"name": "C", "value": "2"}]
    assert env(entries)["B"] == "1-$(C)-$(A)"


def test_services_become_variables_that_the_pods_own_override() -> None:
    there = objects(services=[service("my-db"), service("headless", "None"), service("kubernetes")])
    found = env([{"name": "MY_DB_PORT", "value": "mine"}, {"name": "U", "value": "$(MY_DB_SERVICE_HOST)"}], there)
    assert found["MY_DB_SERVICE_HOST"] == "10.96.0.9"
    assert found["MY_DB_SERVICE_PORT_HTTP"] == "80"
    assert found["MY_DB_PORT_80_TCP"] == "tcp://10.96.0.9:80"
    assert found["MY_DB_PORT"] == "mine"
    assert found["U"] == "10.96.0.9"
    assert not any(name.startswith("HEADLESS") for name in found)


def test_service_links_can_be_left_out_but_for_the_api() -> None:
    there = objects(services=[service("db"), service("kubernetes")])
    spec = container("c")
    found = environment.of_container(pod(spec, enableServiceLinks=False), spec, there, Facts())
    assert "DB_SERVICE_HOST" not in found
    assert found["KUBERNETES_SERVICE_HOST"] == "10.96.0.9"


def test_references_to_objects_fields_and_resources() -> None:
    there = objects(
        configmaps=[{"metadata": {"name": "m"}, "data": {"k": "v"}}],
        secrets=[{"metadata": {"name": "s"}, "data": {"k": base64.b64encode(b"w").decode()}}],
    )
    refs = {
        "CM": {"configMapKeyRef": {"name": "m", "key": "k"}},
        "SECRET": {"secretKeyRef": {"name": "s", "key": "k"}},
        "NONE": {"secretKeyRef": {"name": "s", "key": "nope", "optional": True}},
        "IP": {"fieldRef": {"fieldPath": "status.podIP"}},
        "NAME": {"fieldRef": {"fieldPath": "metadata.name"}},
        "CPU": {"resourceFieldRef": {"resource": "limits.cpu"}},
    }
    found = env([{"name": n, "valueFrom": r} for n, r in refs.items()], there)
    assert {n: found.get(n) for n in refs} == {
        "CM": "v",
        "SECRET": "w",
        "NONE": None,
        "IP": "10.0.0.5",
        "NAME": "web",
        "CPU": "4",
    }


@pytest.mark.parametrize(
    ("resource", "divisor", "limits", "whole", "expected"),
    [
        ("limits.cpu", "1m", {"cpu": "1500m"}, {}, "1500"),
        ("limits.cpu", "0", {"cpu": "1500m"}, {}, "2"),
        ("limits.memory", "1Mi", {}, {}, "8192"),
        ("limits.memory", "1Mi", {}, {"memory": "1Gi"}, "1024"),
        ("limits.cpu", "1", {"cpu": "0"}, {"cpu": "2"}, "2"),
        ("limits.hugepages-2Mi", "1", {}, {}, "0"),
        ("requests.memory", "1", {}, {}, "0"),
    ],
)
def test_a_limit_that_is_not_set_is_the_pods_or_the_nodes(
    resource: str, divisor: str, limits: Obj, whole: Obj, expected: str
) -> None:
    spec = container("c", resources={"limits": limits})
    selector = {"resource": resource, "divisor": divisor}
    node = {"cpu": "4", "memory": "8Gi", "hugepages-2Mi": "1Gi"}
    assert downward.resource_value(pod(spec, resources={"limits": whole}), selector, spec, node) == expected


def test_env_from_takes_whole_objects_with_a_prefix() -> None:
    there = objects(configmaps=[{"metadata": {"name": "m"}, "data": {"a": "1", "b=c": "no"}}])
    assert env([], there, envFrom=[{"prefix": "P_", "configMapRef": {"name": "m"}}]) == {"P_a": "1"}
    with pytest.raises(ConfigFault, match='secret "x" not found'):
        env([], there, envFrom=[{"secretRef": {"name": "x"}}])


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ({"secretKeyRef": {"name": "x", "key": "k"}}, 'secret "x" not found'),
        ({"configMapKeyRef": {"name": "m", "key": "k"}}, "couldn't find key k in ConfigMap default/m"),
    ],
)
def test_a_missing_reference_is_named(ref: Obj, message: str) -> None:
    with pytest.raises(ConfigFault, match=message):
        env([{"name": "A", "valueFrom": ref}], objects(configmaps=[{"metadata": {"name": "m"}, "data": {}}]))


def test_the_hosts_file_names_the_pod_and_its_aliases() -> None:
    spec = pod(hostname="h", subdomain="sub", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}])
    text = hosts.hosts_file(spec, ["10.0.0.5"], "cluster.local")
    assert "10.0.0.5\th.sub.default.svc.cluster.local\th\n" in text
    assert text.endswith("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n")


def test_dns_policies(tmp_path: Any) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("# c\nnameserver 192.0.2.53\nsearch example.com\noptions timeout:1\n")
    dns = Dns("cluster.local", "10.96.0.10", str(conf))
    first = hosts.dns_of(pod(dnsPolicy="ClusterFirst"), dns)
    assert first.servers == ("10.96.0.10",)
    assert first.searches == ("default.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.com")
    assert first.options == ("ndots:5",)
    assert hosts.dns_of(pod(dnsPolicy="ClusterFirst", hostNetwork=True), dns).servers == ("192.0.2.53",)
    own = {"nameservers": ["9.9.9.9"], "options": [{"name": "ndots", "value": "2"}]}
    none = hosts.dns_of(pod(dnsPolicy="None", dnsConfig=own), dns)
    assert (none.servers, none.options) == (("9.9.9.9",), ("ndots:2",))


def test_what_resolvers_do_not_take_is_left_out_and_told(tmp_path: Any) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 192.0.2.53\noptions ndots:1 timeout:1\noptions ndots:3\n")
    dns = Dns("cluster.local", "10.96.0.10", str(conf))
    assert hosts.dns_of(pod(dnsPolicy="Default"), dns).options == ("ndots:3", "timeout:1")
    assert hosts.dns_faults(pod(dnsPolicy="Default"), dns) == []
    own = {"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3"], "searches": ["a.example", "x" * 254]}
    spec = pod(dnsPolicy="Default", dnsConfig=own)
    assert hosts.dns_of(spec, dns).servers == ("192.0.2.53", "1.1.1.1", "2.2.2.2")
    omitted = "limits were exceeded, some {} have been omitted, the applied {} line is: {}"
    assert hosts.dns_faults(spec, dns) == [
        "Nameserver " + omitted.format("nameservers", "nameserver", "192.0.2.53 1.1.1.1 2.2.2.2"),
        "Search Line " + omitted.format("search paths", "search", "a.example"),
    ]


def test_qos_classes() -> None:
    both = {"cpu": "1", "memory": "1Gi"}
    assert resources.qos_class(pod()) == "BestEffort"
    assert resources.qos_class(pod(container("c", resources={"requests": both}))) == "Burstable"
    assert resources.qos_class(pod(container("c", resources={"requests": both, "limits": both}))) == "Guaranteed"


def test_limits_as_the_kernel_takes_them() -> None:
    spec = container("c", resources={"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "500m", "memory": "2Gi"}})
    found = resources.of_container(pod(spec), spec, 8 << 30)
    assert (found.cpu_shares, found.cpu_quota_us, found.cpu_period_us) == (256, 50_000, 100_000)
    assert found.memory_limit_bytes == 2 << 30
    assert found.oom_score_adj == 875
    assert resources.of_container(pod(), container("c"), 8 << 30).oom_score_adj == 1000


def test_a_pods_cgroup_is_unlimited_where_one_container_is() -> None:
    limited = container("a", resources={"limits": {"memory": "1Gi", "cpu": "1"}})
    assert resources.of_pod(pod(limited, container("b"))).memory_limit_bytes == 0
    assert resources.of_pod(pod(limited, {**limited, "name": "b"})).memory_limit_bytes == 2 << 30


def test_a_pods_own_limits_and_its_overhead_are_its_cgroups() -> None:
    asking = container("a", resources={"requests": {"cpu": "100m", "memory": "1Gi"}})
    whole = {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "3Gi"}}
    found = resources.of_pod(pod(asking, container("b"), resources=whole, overhead={"cpu": "500m", "memory": "1Gi"}))
    assert (found.cpu_shares, found.cpu_quota_us, found.memory_limit_bytes) == (1536, 250_000, 4 << 30)


def test_a_sidecar_is_killed_no_sooner_than_those_it_serves() -> None:
    def asking(name: str, memory: str, **fields: Any) -> Obj:
        return container(name, resources={"requests": {"memory": memory}}, **fields)

    small = asking("s", "1Gi", restartPolicy="Always")
    spec = pod(asking("a", "2Gi"), asking("b", "4Gi"), initContainers=[small, asking("i", "1Gi")])
    scores = {c["name"]: resources.oom_score(spec, c, 8 << 30) for c in spec["spec"]["initContainers"]}
    assert scores == {"s": 750, "i": 875}
    spec["spec"]["resources"] = {"requests": {"memory": "10Gi"}}
    assert resources.oom_score(spec, spec["spec"]["containers"][0], 8 << 30) == 657


def test_who_must_not_be_root_is_not() -> None:
    def of(image: Image = IMAGE, **own: Any) -> security.SecurityContext:
        spec = container("c", securityContext={"runAsNonRoot": True, **own})
        return security.of_container(pod(spec), spec, image, "/seccomp")

    with pytest.raises(ConfigFault, match="container has runAsNonRoot and image will run as root"):
        of()
    with pytest.raises(ConfigFault, match="container's runAsUser breaks non-root policy"):
        of(runAsUser=0)
    with pytest.raises(ConfigFault, match=r"image has non-numeric user \(app\), cannot verify user is non-root"):
        of(Image("i", (), (), 1, username="app"))
    assert of(Image("i", (), (), 1, uid=5)).run_as_user == 5


def test_a_containers_security_comes_before_the_pods() -> None:
    spec = container("c", securityContext={"runAsUser": 2, "allowPrivilegeEscalation": False})
    level = {
        "runAsUser": 1,
        "runAsGroup": 9,
        "fsGroup": 7,
        "supplementalGroups": [8],
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    found = security.of_container(pod(spec, securityContext=level, hostNetwork=True), spec, IMAGE, "/seccomp")
    assert (found.run_as_user, found.run_as_group, found.supplemental_groups) == (2, 9, (7, 8))
    assert found.no_new_privs
    assert found.seccomp.kind == "RuntimeDefault"
    assert found.network is NamespaceMode.NODE


def test_a_local_seccomp_profile_lies_below_the_nodes_directory() -> None:
    """CVE-2023-2431"""
    good = container("c", securityContext={"seccompProfile": {"type": "Localhost", "localhostProfile": "p/a.json"}})
    assert security.of_container(pod(good), good, IMAGE, "/seccomp").seccomp.reference == "/seccomp/p/a.json"
    for path in ("../x", "/etc/x", ""):
        bad = container("c", securityContext={"seccompProfile": {"type": "Localhost", "localhostProfile": path}})
        with pytest.raises(ConfigFault):
            security.of_container(pod(bad), bad, IMAGE, "/seccomp")


def pull_secret(**servers: Obj) -> Obj:
    text = orjson.dumps({"auths": {name.replace("__", "."): entry for name, entry in servers.items()}})
    return {"metadata": {"name": "s"}, "data": {".dockerconfigjson": base64.b64encode(text).decode()}}


def test_credentials_go_only_to_the_registry_they_are_for() -> None:
    secret = pull_secret(registry__example__com={"username": "u", "password": "p"})
    found = images.credentials_for("registry.example.com/team/app:1", [secret])
    assert [(a.username, a.password) for a in found] == [("u", "p")]
    assert images.credentials_for("registry.example.com.evil.org/app", [secret]) == []
    assert images.credentials_for("busybox", [secret]) == []


def test_docker_hub_has_many_names() -> None:
    text = orjson.dumps({"auths": {"https://index.docker.io/v1/": {"auth": base64.b64encode(b"u:p").decode()}}})
    secret = {"metadata": {"name": "s"}, "data": {".dockerconfigjson": base64.b64encode(text).decode()}}
    assert [a.username for a in images.credentials_for("busybox", [secret])] == ["u"]


@pytest.mark.parametrize(
    ("given", "tagged"), [("a", "a:latest"), ("h:5000/a", "h:5000/a:latest"), ("a:1", "a:1"), ("a@sha256:0", "a@sha256:0")]
)
def test_a_reference_without_a_tag_means_the_latest(given: str, tagged: str) -> None:
    assert images.with_tag(given) == tagged
