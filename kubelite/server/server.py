"""The composition root of a server.

Order of the start: store, registry, the objects of every cluster, informers, the API's socket, controllers and scheduler,
the nodes' gRPC port. The stop goes the other way under one deadline. This is the only place where all parts are known.
"""

import asyncio
import errno
import os
import time
from functools import partial
from typing import Any

import structlog

from kubelite.admission import builtin as admission
from kubelite.api.aggregation import Aggregation
from kubelite.api.app import Api, ApiServer
from kubelite.api.audit import AuditLog, annotate
from kubelite.api.discovery import Discovery
from kubelite.api.handlers import token
from kubelite.api.loopback import LoopbackClient
from kubelite.api.openapi import OpenApi
from kubelite.auth import authenticators, authorizers
from kubelite.auth.contract import Access
from kubelite.auth.encryption import Encryptor
from kubelite.auth.escalation import EscalationCheck
from kubelite.auth.nodes import NodeAuthorizer
from kubelite.auth.rbac import Rbac
from kubelite.client.events import EventRecorder
from kubelite.client.informers import Informers
from kubelite.client.webhooks import Caller, CallFailed, HttpCaller
from kubelite.meta.types import Obj
from kubelite.meta.users import LOOPBACK, User
from kubelite.registry.contract import Admission, AllowAll
from kubelite.registry.conversions import Ask
from kubelite.registry.registry import Registry
from kubelite.registry.registry import Settings as RegistrySettings
from kubelite.schema import builtin
from kubelite.server import addresses, bootstrap, metrics
from kubelite.server.apiservices import LocalApiServices
from kubelite.server.identity import Identity
from kubelite.server.services import ClusterServices
from kubelite.server.settings import Settings, SettingsError
from kubelite.server.signing import Signer
from kubelite.server.supervisor import Supervisor
from kubelite.store.sqlite import SqliteStore

log = structlog.get_logger(__name__)

STOP_DEADLINE_S = 20.0
CONVERSION_TIMEOUT_S = 30.0
_FAIRNESS = ("flowschemas.flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io")


def conversion_asker(caller: Caller) -> Ask:
    """How the registry reaches the webhooks that convert custom objects."""

    async def ask(config: Obj, review: Obj) -> Any:
        try:
            return await caller.call(config, review, CONVERSION_TIMEOUT_S)
        except CallFailed as e:
            raise ValueError(str(e)) from e

    return ask


class Server:
    """`start` returns when the server is ready; `stop` ends it. `failed` is the future of what must not happen."""

    def __init__(self, settings: Settings, *, with_agents: bool = False) -> None:
        self.settings = settings
        self._with_agents = with_agents
        self.ready = asyncio.Event()
        #: Whether the nodes of this process only simulate their pods.
        self.simulated = False
        self._supervisor = Supervisor()
        key_file = settings.pki_dir / "encryption.key"
        self.store = SqliteStore(
            settings.data_dir / "store.db", seal=lambda: Encryptor.load_or_create(key_file), sealed=("/secrets/",)
        )
        self.kinds = builtin.kinds()
        registry_settings = RegistrySettings((settings.service_cidr,), settings.node_port_range)
        self.registry = Registry(self.store, self.kinds, AllowAll(), registry_settings)
        self.client = LoopbackClient(self.registry, self.kinds)
        self.informers = Informers(self.client)
        self.rbac = Rbac(self.informers)
        self.authorizer = authorizers.Union([authorizers.Masters(), NodeAuthorizer(self.informers), self.rbac])
        self.advertise = addresses.advertised(settings.bind, settings.advertise_address)
        self.port = settings.https_port
        self.identity = Identity(settings, self.advertise, self._lookup)
        self._recorders: dict[str, EventRecorder] = {}
        self.api: Api

    @property
    def failed(self) -> asyncio.Future[None]:
        return self._supervisor.failed

    async def start(self) -> None:
        """Raises StoreError, CertificateError, SettingsError or OSError, each saying what to do."""
        began = time.perf_counter()
        settings, supervisor = self.settings, self._supervisor
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        keys = asyncio.get_running_loop().run_in_executor(None, self.identity.load)
        try:
            await self.store.start()
        finally:
            await keys
        supervisor.on_stop("store", self.store.stop)
        await self.registry.start()
        supervisor.on_stop("registry", self.registry.stop)
        await bootstrap.apply(self.client, settings, self.identity.authority.certificate_pem)

        self.api = self._build_api()
        for resource in _FAIRNESS:
            self.informers.of(resource).subscribe(self._fairness_changed)
        supervisor.run("informers", self.informers.run())
        await self.informers.wait_synced()
        self._configure_fairness()

        self.registry.admission = self._build_admission()
        await self.informers.wait_synced()
        server = ApiServer(self.api, self.identity.tls())
        try:
            bound = await server.start([(settings.bind, settings.https_port)])
        except OSError as e:
            remedy = "end what uses the port, or choose another with --https-port"
            if e.errno == errno.EADDRNOTAVAIL:
                remedy = "give an address of this machine with --bind, or 0.0.0.0 for all"
            elif e.errno == errno.EACCES:
                remedy = "only root may use ports below 1024: choose another with --https-port"
            raise SettingsError(
                f"cannot listen on {settings.bind}:{settings.https_port}: {os.strerror(e.errno) if e.errno else e}; {remedy}"
            ) from e
        self.port = bound[0][1]
        self.api.use_address(self.advertise, self.port)
        supervisor.on_stop("api", lambda: server.stop(5.0))
        supervisor.run("api", server.run())
        services = ClusterServices(self.client, self.informers, settings, self.advertise, self.port)
        await services.apply()
        supervisor.run("cluster services", services.run())
        self.identity.write_kubeconfig(self.port)
        supervisor.run("certificate renewal", self.identity.run())
        self._start_controllers()
        self._start_scheduler()
        await self._start_nodes()
        self.ready.set()
        log.info(
            "server_ready",
            address=f"https://{self.advertise}:{self.port}",
            kubeconfig=str(settings.kubeconfig),
            seconds=round(time.perf_counter() - began, 3),
        )

    async def stop(self) -> None:
        was_ready = self.ready.is_set()
        self.ready.clear()
        await self._supervisor.stop(STOP_DEADLINE_S)
        if was_ready:
            log.info("server_stopped")

    def _lookup(self, resource: str, namespace: str, name: str) -> Obj | None:
        """The newest committed state, for what tokens are bound to."""
        kind = self.kinds.preferred(resource)
        entry = self.store.get(kind.key(namespace, name))
        return self.registry.parsed(entry) if entry is not None else None

    def _build_api(self) -> Api:
        api = Api(
            registry=self.registry,
            kinds=self.kinds,
            authenticator=authenticators.Chain.of(self.identity.tokens, self._lookup),
            authorizer=self.authorizer,
            rbac=self.rbac,
            issuer=self.identity.tokens,
            client=self.client,
            informers=self.informers,
            discovery=Discovery(self.kinds),
            openapi=OpenApi(self.kinds),
        )
        if self.settings.audit_log:
            api.audit = AuditLog(self.settings.data_dir / "audit.log")
        api.health.add("store", self._store_problem)
        api.health.add("informer-sync", self._unsynced, ready_only=True)
        api.health.add("start", lambda: None if self.ready.is_set() else "not all parts have started", ready_only=True)
        api.metrics.add_source(partial(metrics.of_registry, self.registry))
        api.metrics.add_source(partial(metrics.of_fairness, api.fairness))
        api.metrics.add_source(partial(metrics.of_events, self._recorders))
        return api

    def _build_admission(self) -> Admission:
        def permits(user: User, verb: str, group: str, resource: str, subresource: str, namespace: str, name: str, /) -> bool:
            access = Access(user, verb, group, "", resource, subresource, namespace, name)
            return self.authorizer.authorize(access).allowed is True

        caller = HttpCaller(self.informers)
        self._supervisor.on_stop("webhook connections", caller.close)
        self.registry.entries.conversions.ask = conversion_asker(caller)
        configured = [
            EscalationCheck(self.rbac, self.authorizer),
            *admission.configured_plugins(self.client, self.informers, permits, self.kinds, caller, annotate),
        ]
        return admission.chain(self.client, self.informers, permits, configured=configured)

    def _start_controllers(self) -> None:
        if not self.settings.is_enabled("controllers"):
            return
        from kubelite.controllers import Controllers, Environment
        from kubelite.controllers import Settings as ControllerSettings

        client = self.client.as_user(LOOPBACK, "kube-controller-manager")
        settings = ControllerSettings(
            root_ca_pem=self.identity.authority.certificate_pem.decode(),
            cluster_cidr=self.settings.cluster_cidr,
            service_cidr=self.settings.service_cidr,
            mint_token=self.identity.mint_token,
            sign_csr=Signer(self.identity.authority).sign,
        )
        events = EventRecorder(client, "controllers")
        controllers = Controllers(Environment(client, self.informers, events, self.kinds, settings))
        self.api.metrics.add_source(partial(metrics.of_controllers, controllers))
        self._recorders["controllers"] = events
        self._supervisor.run("controllers", controllers.run())

    def _start_scheduler(self) -> None:
        if not self.settings.is_enabled("scheduler"):
            return
        from kubelite.scheduler.scheduler import Scheduler

        scheduler = Scheduler(self.client.as_user(LOOPBACK, "kube-scheduler"), self.informers)
        self.api.metrics.add_source(partial(metrics.of_scheduler, scheduler))
        self._recorders["scheduler"] = scheduler.recorder
        self._supervisor.run("scheduler", scheduler.run())
        self.api.health.add(
            "scheduler", lambda: None if scheduler.ready.is_set() else "its informers are not synced", ready_only=True
        )

    async def _start_nodes(self) -> None:
        from kubelite.nodes.sessions import Nodes
        from kubelite.rpc import node_pb2 as pb

        settings = self.settings
        cluster = pb.ClusterInfo(
            cluster_domain=settings.cluster_domain,
            dns_address=settings.dns_service_ip,
            cluster_cidr=settings.cluster_cidr,
            service_cidr=settings.service_cidr,
            api_server_address=self.advertise,
            api_server_port=self.port,
        )
        self.nodes = Nodes(
            lambda user: self.client.as_user(user, "kubelet"),
            self.informers,
            cluster,
            issue_token=self._issue_node_token,
            sign=self.identity.sign_node,
            ca_pem=self.identity.authority.certificate_pem,
        )
        self.api.nodes = self.nodes
        self.api.metrics.add_source(partial(metrics.of_nodes, self.nodes))
        self._start_aggregation()
        self._supervisor.run("nodes", self.nodes.run())
        await self._start_grpc()
        if self._with_agents:
            from kubelite.server.agents import Agents

            agents = Agents(settings, self.nodes.link)
            agents.start(self._supervisor)
            self.simulated = agents.simulated

    def _start_aggregation(self) -> None:
        aggregation = Aggregation(self.api, *self.identity.front_proxy())
        self.api.aggregated = aggregation
        self.api.discovery.aggregated = aggregation.groups
        self._supervisor.run("aggregation", aggregation.run())
        local = LocalApiServices(self.client, self.informers, self.kinds)
        self._supervisor.run("api services", local.run())

    async def _start_grpc(self) -> None:
        from kubelite.grpcapi.server import GrpcServer

        server = GrpcServer(
            self.nodes,
            self.registry,
            self.kinds,
            self.api.authenticator,
            self.authorizer,
            certificate=lambda: self.identity.certificate,
            ca_pem=self.identity.authority.certificate_pem,
        )
        try:
            await server.start(self.settings.bind, self.settings.node_grpc_port)
        except OSError as e:
            raise SettingsError(f"{e}; end what uses the port, or choose another with --grpc-port") from e
        self.api.node_port = server.port
        self._supervisor.on_stop("grpc", lambda: server.stop(0.5))

    async def _issue_node_token(self, user: User, namespace: str, account: str, body: Obj) -> Obj:
        access = Access(user, "create", "", "v1", "serviceaccounts", "token", namespace, account)
        authorizers.require(self.authorizer, access)
        return await token.issue(self.api, namespace, account, body)

    def _store_problem(self) -> str | None:
        return None if self.store.statistics()["writable"] else "the store refuses writes; its log line says why"

    def _unsynced(self) -> str | None:
        return None if all(self.informers.of(r).synced.is_set() for r in _FAIRNESS) else "informers are not synced"

    def _fairness_changed(self, old: Obj | None, new: Obj | None) -> None:
        # Status updates change nothing here; the first list calls this for each object, so it waits for all of them.
        if old is not None and new is not None and old.get("spec") == new.get("spec"):
            return
        if all(self.informers.of(r).synced.is_set() for r in _FAIRNESS):
            self._configure_fairness()

    def _configure_fairness(self) -> None:
        schemas, levels = (self.informers.of(r).list() for r in _FAIRNESS)
        self.api.fairness.configure(schemas, levels)
