"""A registry over a real store in a directory of the test's own."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kubelite.meta.types import Obj
from kubelite.meta.users import LOOPBACK
from kubelite.registry.contract import AllowAll, DeleteOptions, ListOptions, Patch, Target, WriteOptions
from kubelite.registry.lists import Page
from kubelite.registry.registry import Registry, Settings
from kubelite.registry.watch import RegistryWatch
from kubelite.schema import builtin
from kubelite.store.sqlite import SqliteStore


class Cluster:
    """The registry, with shorter words for what tests do most."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.warnings: list[str] = []

    def target(self, resource: str, name: str = "", namespace: str = "default", subresource: str = "") -> Target:
        kind = self.registry.kinds.preferred(resource)
        return Target(kind, namespace if kind.namespaced else "", name, subresource)

    def options(self, **fields: Any) -> WriteOptions:
        return WriteOptions(LOOPBACK, field_manager="test", warnings=self.warnings, **fields)

    async def create(self, resource: str, obj: Obj, *, name: str = "", subresource: str = "", **fields: Any) -> Obj:
        namespace = obj.get("metadata", {}).get("namespace", "default")
        target = self.target(resource, name, namespace, subresource)
        return self.registry.parsed(await self.registry.create(target, obj, self.options(**fields)))

    async def get(self, resource: str, name: str, *, subresource: str = "") -> Obj:
        return self.registry.parsed(await self.registry.get(self.target(resource, name, subresource=subresource)))

    async def update(self, resource: str, obj: Obj, *, subresource: str = "", **fields: Any) -> Obj:
        target = self.target(resource, obj["metadata"]["name"], subresource=subresource)
        entry, _ = await self.registry.update(target, obj, self.options(**fields))
        return self.registry.parsed(entry)

    async def patch(
        self, resource: str, name: str, patch: bytes, form: Any = "merge", *, subresource: str = "", **fields: Any
    ) -> Obj:
        target = self.target(resource, name, subresource=subresource)
        entry, _ = await self.registry.patch(target, Patch(form, patch), self.options(**fields))
        return self.registry.parsed(entry)

    async def delete(self, resource: str, name: str, **fields: Any) -> tuple[Obj, bool]:
        target = self.target(resource, name)
        entry, status, finished = await self.registry.delete(target, DeleteOptions(**fields), self.options())
        if entry is not None:
            return self.registry.parsed(entry), finished
        assert status is not None
        return status, finished

    async def page(self, resource: str, namespace: str = "default", **fields: Any) -> Page:
        return await self.registry.list(self.target(resource, namespace=namespace), ListOptions(**fields))

    def names(self, page: Page) -> list[str]:
        return [self.registry.parsed(entry)["metadata"]["name"] for entry in page.items]

    def watch(self, resource: str, namespace: str = "default", **fields: Any) -> RegistryWatch:
        return self.registry.watch(self.target(resource, namespace=namespace), ListOptions(**fields))


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    store = SqliteStore(tmp_path / "store.db")
    await store.start()
    registry = Registry(store, builtin.kinds(), AllowAll(), Settings())
    await registry.start()
    yield Cluster(registry)
    await registry.stop()
    await store.stop()


@pytest.fixture
def config_map() -> Callable[..., Obj]:
    def make(name: str = "settings", **fields: Any) -> Obj:
        meta = {"name": name, **fields.pop("metadata", {})}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"a": "1"}, **fields}

    return make


@pytest.fixture
def pod() -> Callable[..., Obj]:
    def make(name: str = "web", **spec: Any) -> Obj:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "web", "image": "web:1"}], **spec},
        }

    return make


@pytest.fixture
def deployment() -> Callable[..., Obj]:
    def make(name: str = "web", **spec: Any) -> Obj:
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "web", "image": "web:1"}]},
                },
                **spec,
            },
        }

    return make
