"""ServiceAccount: every pod has a service account, and with it a token volume and the account's image pull secrets.

Source: plugin/pkg/admission/serviceaccount.
"""

import asyncio
from collections.abc import Iterable

from kubelite.admission import faults
from kubelite.client.contract import Client
from kubelite.client.informers import Informers
from kubelite.meta import errors, names, pods
from kubelite.meta.types import Obj
from kubelite.registry.contract import Attributes, Operation
from kubelite.schema.kinds import Kind

DEFAULT_ACCOUNT = "default"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME_PREFIX = "kube-api-access-"
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
_ENFORCE_ANNOTATION = "kubernetes.io/enforce-mountable-secrets"
#: The lifetime that kubelets know: at this one they renew a token, and warn when an old one is used.
TOKEN_LIFETIME_S = 3607
#: A new namespace's default account is made by a controller; a pod that is created at once waits for it this long.
_DEFAULT_ACCOUNT_WAIT_S = 2.0


class ServiceAccount:
    name = "ServiceAccount"

    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self._accounts = informers.of("serviceaccounts")

    def handles(self, operation: Operation, kind: Kind, subresource: str) -> bool:
        if kind.group_resource != "pods":
            return False
        return (operation == "CREATE" and not subresource) or (operation == "UPDATE" and subresource == "ephemeralcontainers")

    async def admit(self, attributes: Attributes) -> Obj | None:
        pod = attributes.obj
        if pod is None or attributes.operation != "CREATE":
            return pod
        if _is_mirror(pod):
            _check_mirror(attributes, pod)
            return pod
        spec = dict(pod["spec"])
        if not spec.get("serviceAccountName"):
            spec["serviceAccountName"] = DEFAULT_ACCOUNT
        account = await self._account(attributes, spec["serviceAccountName"])
        spec["serviceAccount"] = spec["serviceAccountName"]  # the deprecated alias, which clients still read
        if _mounts_token(account, spec):
            _mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [{"name": ref["name"]} for ref in account["imagePullSecrets"]]
        return pod | {"spec": spec}

    async def validate(self, attributes: Attributes) -> None:
        pod = attributes.obj
        if pod is None:
            return
        if _is_mirror(pod):
            if attributes.operation == "CREATE":
                _check_mirror(attributes, pod)
            return
        name = pods.service_account(pod)
        if not name:
            raise faults.forbidden(
                attributes, f"no service account specified for pod {attributes.target.namespace}/{faults.name_of(attributes)}"
            )
        account = await self._account(attributes, name)
        if (account["metadata"].get("annotations") or {}).get(_ENFORCE_ANNOTATION) in ("true", "True", "TRUE", "t", "T", "1"):
            _check_secrets(attributes, pod, account)

    async def _account(self, attributes: Attributes, name: str) -> Obj:
        namespace = attributes.target.namespace
        account = self._accounts.get(name, namespace)
        if account is not None:
            return account
        try:
            return await self._client.get("serviceaccounts", name, namespace)
        except errors.NotFound:
            if name == DEFAULT_ACCOUNT:
                account = await self._wait_account(namespace, name)
        if account is None:
            why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
            raise faults.forbidden(attributes, why)
        return account

    async def _wait_account(self, namespace: str, name: str) -> Obj | None:
        arrived = asyncio.Event()

        def look(old: Obj | None, new: Obj | None) -> None:
            if new is not None and new["metadata"]["name"] == name and new["metadata"].get("namespace") == namespace:
                arrived.set()

        unsubscribe = self._accounts.subscribe(look)
        try:
            async with asyncio.timeout(_DEFAULT_ACCOUNT_WAIT_S):
                await arrived.wait()
        except TimeoutError:
            return None
        finally:
            unsubscribe()
        return self._accounts.get(name, namespace)


def _is_mirror(pod: Obj) -> bool:
    return MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {})


def _mounts_token(account: Obj, spec: Obj) -> bool:
    for source in (spec, account):
        if source.get("automountServiceAccountToken") is not None:
            return bool(source["automountServiceAccountToken"])
    return True


def _mount_token(spec: Obj) -> None:
    """Adds the volume and its mounts to a spec that the caller owns; lists and containers in it are replaced, not changed."""
    volumes = spec.get("volumes") or []
    found = next((volume["name"] for volume in volumes if volume["name"].startswith(VOLUME_PREFIX)), None)
    name = found or VOLUME_PREFIX + names.random_suffix()
    mount = {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}
    needed = False
    for field in ("initContainers", "containers"):
        containers = spec.get(field)
        if not containers:
            continue
        mounted = []
        for container in containers:
            mounts = container.get("volumeMounts") or []
            if not any(m.get("mountPath") == MOUNT_PATH for m in mounts):
                container = container | {"volumeMounts": [*mounts, mount]}
                needed = True
            mounted.append(container)
        spec[field] = mounted
    if needed and found is None:
        spec["volumes"] = [*volumes, {"name": name, "projected": token_volume()}]


def token_volume() -> Obj:
    """The source of a token volume: the token, the cluster's certificate authority, the namespace."""
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    return {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_LIFETIME_S, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
        ],
    }


def _check_mirror(attributes: Attributes, pod: Obj) -> None:
    if pods.service_account(pod):
        raise faults.forbidden(attributes, "a mirror pod may not reference service accounts")
    if pods.secrets(pod):
        raise faults.forbidden(attributes, "a mirror pod may not reference secrets")
    if pods.requests_token(pod):
        raise faults.forbidden(attributes, "a mirror pod may not use ServiceAccountToken volume projections")


_CONTAINER_WORDS = {"containers": "container", "initContainers": "init container", "ephemeralContainers": "ephemeral container"}


def _check_secrets(attributes: Attributes, pod: Obj, account: Obj) -> None:
    """Only secrets that the account lists, for accounts that enforce it; every kind of container and both forms of env."""
    spec, account_name = pod["spec"], account["metadata"]["name"]
    mountable = {ref.get("name") for ref in account.get("secrets") or ()}
    tail = f"is not allowed because service account {account_name} does not reference that secret"
    only_ephemeral = attributes.target.subresource == "ephemeralcontainers"
    for volume in () if only_ephemeral else spec.get("volumes") or ():
        secret = volume.get("secret")
        if secret is not None and secret.get("secretName") not in mountable:
            raise faults.forbidden(attributes, f'volume with secret.secretName="{secret.get("secretName")}" {tail}')
    for field, word in _CONTAINER_WORDS.items():
        if only_ephemeral and field != "ephemeralContainers":
            continue
        for container in spec.get(field) or ():
            for how, secret_name in _container_secrets(container):
                if secret_name not in mountable:
                    text = f'{word} {container["name"]} with {how} referencing secret.secretName="{secret_name}" {tail}'
                    raise faults.forbidden(attributes, text)
    pullable = {ref.get("name") for ref in account.get("imagePullSecrets") or ()}
    for number, ref in enumerate(() if only_ephemeral else spec.get("imagePullSecrets") or ()):
        if ref.get("name") not in pullable:
            text = f'imagePullSecrets[{number}].name="{ref.get("name")}" is not allowed because service account {account_name} '
            raise faults.forbidden(attributes, text + "does not reference that imagePullSecret")


def _container_secrets(container: Obj) -> Iterable[tuple[str, str]]:
    for env in container.get("env") or ():
        ref = (env.get("valueFrom") or {}).get("secretKeyRef")
        if ref is not None:
            yield f"envVar {env['name']}", ref.get("name", "")
    for source in container.get("envFrom") or ():
        if source.get("secretRef") is not None:
            yield "envFrom", source["secretRef"].get("name", "")
