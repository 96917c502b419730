"""The service account `default` in each namespace, and the root certificates that every namespace publishes to its pods.

Source: kubernetes pkg/controller/serviceaccount/serviceaccounts_controller.go and
pkg/controller/certificates/rootcacertpublisher, v1.34.
"""

from collections.abc import Iterable
from typing import ClassVar

from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller, is_namespace_terminating
from kubelite.meta.errors import AlreadyExists, ApiError, NotFound
from kubelite.meta.types import Obj

DEFAULT_ACCOUNT = "default"
ROOT_CA = "kube-root-ca.crt"
ROOT_CA_KEY = "ca.crt"
ROOT_CA_ANNOTATIONS = {
    "kubernetes.io/description": "The certificates to verify the API server with at its addresses inside the cluster."
}


class _InEachNamespace(Controller):
    """Keeps one object of a fixed name in every namespace that is not ending."""

    resource: ClassVar[str]
    object_name: ClassVar[str]

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._namespaces = self.informer("namespaces")
        self._objects = self.informer(self.resource)
        self.follow(self._namespaces, lambda namespace: (namespace["metadata"]["name"],))
        self.follow(self._objects, self._namespace_of)

    def _namespace_of(self, obj: Obj) -> Iterable[str]:
        return (obj["metadata"]["namespace"],) if obj["metadata"]["name"] == self.object_name else ()

    async def reconcile(self, key: str) -> None:
        namespace = self._namespaces.get(key)
        if namespace is None or "deletionTimestamp" in namespace["metadata"]:
            return
        wanted = self.wanted(key)
        if wanted is None:
            return
        found = self._objects.get(self.object_name, key)
        try:
            if found is None:
                await self.client.create(self.resource, wanted, key)
            elif not self.is_good(found, wanted):
                await self.client.update(self.resource, {**found, **wanted, "metadata": found["metadata"]})
        except (AlreadyExists, NotFound):
            return  # there already, or the namespace is not any more; the informer says so in a moment
        except ApiError as e:
            if not is_namespace_terminating(e):
                raise

    def wanted(self, namespace: str) -> Obj | None:
        """The object as it should be; None where this cluster has none."""
        raise NotImplementedError

    def is_good(self, found: Obj, wanted: Obj) -> bool:
        return True


class DefaultAccounts(_InEachNamespace):
    """The `default` service account."""

    name: ClassVar[str] = "service-account-controller"
    resource: ClassVar[str] = "serviceaccounts"
    object_name: ClassVar[str] = DEFAULT_ACCOUNT

    def wanted(self, namespace: str) -> Obj | None:
        return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": DEFAULT_ACCOUNT, "namespace": namespace}}


class RootCertificates(_InEachNamespace):
    """The config map `kube-root-ca.crt`."""

    name: ClassVar[str] = "root-ca-certificate-publisher"
    resource: ClassVar[str] = "configmaps"
    object_name: ClassVar[str] = ROOT_CA

    def wanted(self, namespace: str) -> Obj | None:
        if not self.env.settings.root_ca_pem:
            return None
        meta = {"name": ROOT_CA, "namespace": namespace, "annotations": ROOT_CA_ANNOTATIONS}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {ROOT_CA_KEY: self.env.settings.root_ca_pem}}

    def is_good(self, found: Obj, wanted: Obj) -> bool:
        return bool(found.get("data") == wanted["data"])
