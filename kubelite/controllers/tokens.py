"""Secrets that are tokens: those of service accounts are filled, those of joining nodes deleted when they expire.

Source: kubernetes pkg/controller/serviceaccount/tokens_controller.go and pkg/controller/bootstrap/tokencleaner.go, v1.34.
"""

import base64
from typing import ClassVar

from kubelite.auth import bootstrap_tokens
from kubelite.controllers.environment import Environment
from kubelite.controllers.reconciler import Controller, key_of, split_key
from kubelite.meta.errors import NotFound
from kubelite.meta.types import Obj

TOKEN_TYPE = "kubernetes.io/service-account-token"
ACCOUNT_NAME = "kubernetes.io/service-account.name"
ACCOUNT_UID = "kubernetes.io/service-account.uid"
BOOTSTRAP_TYPE = "bootstrap.kubernetes.io/token"


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class AccountTokens(Controller):
    """Fills the secrets that somebody made for a service account's token, and deletes them with the account."""

    name: ClassVar[str] = "tokens-controller"

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._secrets = self.informer("secrets")
        self._accounts = self.informer("serviceaccounts")
        self.follow(self._secrets, lambda secret: (key_of(secret),) if secret.get("type") == TOKEN_TYPE else ())
        self._accounts.subscribe(self._account_changed)

    def _account_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and new is not None:
            return
        account = new or old
        assert account is not None
        for secret in self._secrets.list(account["metadata"]["namespace"]):
            if secret.get("type") == TOKEN_TYPE and _account_of(secret) == account["metadata"]["name"]:
                self.queue.add(key_of(secret))

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        secret = self._secrets.get(name, namespace)
        mint = self.env.settings.mint_token
        if secret is None:
            await self._take_back(namespace, name)
        if secret is None or secret.get("type") != TOKEN_TYPE or "deletionTimestamp" in secret["metadata"] or mint is None:
            return
        annotations = secret["metadata"].get("annotations") or {}
        account_name = _account_of(secret)
        account = self._accounts.get(account_name, namespace)
        uid = annotations.get(ACCOUNT_UID, "")
        if account is None or (uid and uid != account["metadata"]["uid"]):
            try:
                account = await self.client.get("serviceaccounts", account_name, namespace)
            except NotFound:
                account = None
            if account is None or (uid and uid != account["metadata"]["uid"]):
                secret_uid = secret["metadata"]["uid"]
                await self.client.delete("secrets", name, namespace, precondition_uid=secret_uid)
                return
        data = secret.get("data") or {}
        wanted = dict(data)
        if self.env.settings.root_ca_pem:
            wanted["ca.crt"] = _encoded(self.env.settings.root_ca_pem)
        wanted["namespace"] = _encoded(namespace)
        if not data.get("token"):
            wanted["token"] = _encoded(mint(account, secret))
        if wanted != data or uid != account["metadata"]["uid"]:
            meta = {**secret["metadata"], "annotations": {**annotations, ACCOUNT_UID: account["metadata"]["uid"]}}
            await self.client.update("secrets", {**secret, "metadata": meta, "data": wanted})

    async def _take_back(self, namespace: str, name: str) -> None:
        """Takes a secret that is gone off the lists of the accounts that name it."""
        for account in self._accounts.list(namespace):
            listed = account.get("secrets") or []
            left = [reference for reference in listed if reference.get("name") != name]
            if len(left) < len(listed):
                await self.client.update("serviceaccounts", {**account, "secrets": left})


def _account_of(secret: Obj) -> str:
    return str((secret["metadata"].get("annotations") or {}).get(ACCOUNT_NAME, ""))


class JoinTokens(Controller):
    """Deletes bootstrap tokens that have expired."""

    name: ClassVar[str] = "token-cleaner-controller"
    workers: ClassVar[int] = 1

    def __init__(self, env: Environment) -> None:
        super().__init__(env)
        self._secrets = self.informer("secrets")
        self.follow(self._secrets, lambda secret: (key_of(secret),) if secret.get("type") == BOOTSTRAP_TYPE else ())

    async def reconcile(self, key: str) -> None:
        namespace, name = split_key(key)
        secret = self._secrets.get(name, namespace)
        token = bootstrap_tokens.parse_secret(secret) if secret is not None and namespace == "kube-system" else None
        if secret is None or token is None or token.expires is None:
            return
        left_s = token.expires.timestamp() - self.env.now()
        if left_s > 0:
            self.queue.add_after(key, left_s + 0.1)
            return
        await self.client.delete("secrets", name, namespace, precondition_uid=secret["metadata"]["uid"])
