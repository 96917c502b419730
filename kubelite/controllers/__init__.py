"""The controllers, and their table: one row makes a controller known to the server and to `--disable`."""

import asyncio
from collections.abc import Collection, Mapping

import structlog

from kubelite.controllers.certificates import CertificateApproval, CertificateCleaner, CertificateSigning
from kubelite.controllers.clusterroles import ClusterRoleAggregation
from kubelite.controllers.cronjobs import CronJobs, FinishedJobs
from kubelite.controllers.daemonsets import DaemonSets
from kubelite.controllers.deployments import Deployments
from kubelite.controllers.disruption import Disruptions
from kubelite.controllers.endpoints import EndpointsController
from kubelite.controllers.endpointslices import EndpointSlices
from kubelite.controllers.environment import Environment, Settings
from kubelite.controllers.ephemeralvolumes import EphemeralVolumes
from kubelite.controllers.eviction import TaintEviction
from kubelite.controllers.flowschemas import FlowSchemas
from kubelite.controllers.garbage import GarbageCollector
from kubelite.controllers.jobs import Jobs
from kubelite.controllers.mirroring import EndpointSliceMirroring
from kubelite.controllers.namespaces import Namespaces
from kubelite.controllers.nodes import NodeLifecycle, NodeNetworks
from kubelite.controllers.podgc import PodCollector
from kubelite.controllers.policystatus import PolicyStatus
from kubelite.controllers.quotas import Quotas
from kubelite.controllers.reconciler import Controller
from kubelite.controllers.replicasets import ReplicaSets, ReplicationControllers
from kubelite.controllers.serviceaccounts import DefaultAccounts, RootCertificates
from kubelite.controllers.servicecidrs import ServiceCidrs
from kubelite.controllers.statefulsets import StatefulSets
from kubelite.controllers.tokens import AccountTokens, JoinTokens
from kubelite.controllers.volumeprotection import ClaimProtection, VolumeProtection
from kubelite.controllers.volumes import VolumeBinder, VolumeExpander

log = structlog.get_logger()

#: The garbage collector is last: it then finds the informers of the others and needs no watches of its own for them.
CONTROLLERS: Mapping[str, type[Controller]] = {
    controller.name: controller
    for controller in (
        Namespaces,
        DefaultAccounts,
        RootCertificates,
        ReplicaSets,
        ReplicationControllers,
        Deployments,
        DaemonSets,
        StatefulSets,
        Jobs,
        CronJobs,
        FinishedJobs,
        EndpointsController,
        EndpointSlices,
        EndpointSliceMirroring,
        NodeLifecycle,
        NodeNetworks,
        TaintEviction,
        PodCollector,
        CertificateApproval,
        CertificateCleaner,
        CertificateSigning,
        ClusterRoleAggregation,
        Disruptions,
        Quotas,
        PolicyStatus,
        FlowSchemas,
        ServiceCidrs,
        AccountTokens,
        JoinTokens,
        ClaimProtection,
        EphemeralVolumes,
        VolumeBinder,
        VolumeExpander,
        VolumeProtection,
        GarbageCollector,
    )
}


class Controllers:
    """All controllers of the table but the disabled ones, in one `run`."""

    def __init__(self, env: Environment, disabled: Collection[str] = ()) -> None:
        unknown = {*disabled} - {*CONTROLLERS}
        if unknown:
            known = ", ".join(sorted(CONTROLLERS))
            raise ValueError(f"there is no controller {', '.join(sorted(unknown))}; the controllers are {known}")
        self._env = env
        self.controllers = [make(env) for name, make in CONTROLLERS.items() if name not in disabled]

    async def run(self) -> None:
        """Runs them, and the recorder of their events, until cancelled. A controller that ends is an error."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._env.events.run(), name="controllers-events")
            for controller in self.controllers:
                group.create_task(controller.run(), name=controller.name)

    def statistics(self) -> dict[str, dict[str, int]]:
        """The numbers of each controller's queue."""
        return {controller.name: controller.queue.statistics() for controller in self.controllers}


__all__ = ["CONTROLLERS", "Controller", "Controllers", "Environment", "Settings"]
