"""What becomes of pods' fields before they are stored."""

from kubelite.registry.strategies import podfields


def test_a_pods_own_labels_narrow_its_selectors() -> None:
    pod = {
        "metadata": {"labels": {"app": "web", "hash": "abc"}},
        "spec": {
            "topologySpreadConstraints": [{"labelSelector": {"matchLabels": {"app": "web"}}, "matchLabelKeys": ["hash", "none"]}],
            "affinity": {
                "podAntiAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {"podAffinityTerm": {"labelSelector": {}, "mismatchLabelKeys": ["app"]}}
                    ]
                },
                "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"matchLabelKeys": ["hash"]}]},
            },
        },
    }
    podfields.merge_label_keys(pod)
    spread, affinity = pod["spec"]["topologySpreadConstraints"][0], pod["spec"]["affinity"]
    assert spread["labelSelector"]["matchExpressions"] == [{"key": "hash", "operator": "In", "values": ["abc"]}]
    (preferred,) = affinity["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    expected = [{"key": "app", "operator": "NotIn", "values": ["web"]}]
    assert preferred["podAffinityTerm"]["labelSelector"]["matchExpressions"] == expected
    assert affinity["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] == [{"matchLabelKeys": ["hash"]}]


def test_what_features_that_are_off_say_goes_with_all_that_uses_it() -> None:
    kept, image = {"name": "v", "emptyDir": {}}, {"name": "i", "image": {"reference": "r"}}
    mounts = [{"name": "i", "mountPath": "/i"}, {"name": "v", "mountPath": "/v"}]
    containers = [{"name": "c", "lifecycle": {"stopSignal": "SIGUSR1"}, "restartPolicy": "Never", "volumeMounts": mounts}]
    init = [{"name": "s", "restartPolicy": "Always"}, {"name": "n", "restartPolicy": "Never"}]
    pod = {"spec": {"hostnameOverride": "a", "volumes": [kept, image], "initContainers": init, "containers": containers}}
    podfields.normalize(pod)
    assert pod["spec"] == {
        "volumes": [kept],
        "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "n"}],
        "containers": [{"name": "c", "volumeMounts": mounts[1:]}],
    }


def test_the_first_address_is_the_same_in_both_fields() -> None:
    for status in ({"podIP": "1.2.3.4"}, {"podIPs": [{"ip": "1.2.3.4"}]}, {"podIP": "1.2.3.4", "podIPs": [{"ip": "1.2.3.5"}]}):
        podfields.mirror_address(status)
        assert status == {"podIP": "1.2.3.4", "podIPs": [{"ip": "1.2.3.4"}]}
