"""One cluster for all clients, and a namespace for each test."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, watch

from kubelite.testing.cluster import Cluster

KUBECTL = Path(__file__).parents[2] / ".cache" / "bin" / "kubectl"


@pytest.fixture(scope="session")
def api(kubelite: Cluster) -> Iterator[client.ApiClient]:
    """The official client, as the administrator."""
    with config.new_client_from_config(str(kubelite.kubeconfig)) as made:
        yield made


@pytest.fixture
def namespace(api: client.ApiClient) -> Iterator[str]:
    """A namespace of the test's own, in which pods can be made."""
    core = client.CoreV1Api(api)
    name: str = core.create_namespace({"metadata": {"generateName": "clients-"}}).metadata.name
    until(core.list_namespaced_service_account, lambda e: e["object"].metadata.name == "default", name)
    yield name
    core.delete_namespace(name)


def until(listing: Any, fits: Any, *args: Any, **options: Any) -> Any:
    """The first object of a watch whose event fits."""
    watching = watch.Watch()
    for event in watching.stream(listing, *args, timeout_seconds=30, **options):
        if fits(event):
            watching.stop()
            return event["object"]
    raise AssertionError(f"not within 30 s: {listing.__name__}")


def definition(plural: str, group: str, kind: str, spec: Any) -> dict[str, Any]:
    """A custom kind whose spec has this schema."""
    status = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "description": f"A {kind} of {group}.", "properties": {"spec": spec, "status": status}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind, "singular": kind.lower()},
            "versions": [version],
        },
    }


@pytest.fixture
def custom_kind(api: client.ApiClient) -> Iterator[Any]:
    """Makes custom kinds, which go after the test."""
    definitions = client.ApiextensionsV1Api(api)
    made: list[str] = []

    def make(plural: str, group: str, kind: str, spec: Any) -> None:
        body = definition(plural, group, kind, spec)
        name = definitions.create_custom_resource_definition(body).metadata.name
        made.append(name)
        until(definitions.list_custom_resource_definition, _is_established, field_selector=f"metadata.name={name}")

    yield make
    for name in made:
        definitions.delete_custom_resource_definition(name)


def _is_established(event: Any) -> bool:
    status = event["object"].status
    return any(c.type == "Established" and c.status == "True" for c in (status and status.conditions) or ())


@dataclass(frozen=True)
class Kubectl:
    """The stock kubectl in a namespace, with a cache of its own."""

    kubeconfig: Path
    namespace: str
    home: Path

    def __call__(self, *words: str, stdin: str | None = None) -> str:
        """Standard output and error together. Raises CalledProcessError."""
        command = [str(KUBECTL), "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace, *words]
        result = subprocess.run(
            command,
            input=stdin,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
            env={**os.environ, "HOME": str(self.home)},
        )
        assert result.returncode == 0, f"kubectl {' '.join(words)}: {result.stdout}"
        return result.stdout


@pytest.fixture
def kubectl(kubelite: Cluster, namespace: str, tmp_path: Path) -> Kubectl:
    return Kubectl(kubelite.kubeconfig, namespace, tmp_path)
