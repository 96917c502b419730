"""Ends pods that take more of their node's disk than their limits allow: volumes beyond their size, pods and containers beyond
their ephemeral storage.

What is judged is pure (`overrun`); who is measured are the pods with such limits alone, since measuring walks their directories.

Source: pkg/kubelet/eviction/eviction_manager.go localStorageEviction, v1.34 (order, messages).
"""

import asyncio

import structlog

from kubelite.admission.usage import pod_limits
from kubelite.agent import usage
from kubelite.agent.context import Context
from kubelite.agent.pods import Pods
from kubelite.agent.resources import is_critical, limits_of
from kubelite.agent.sync import PodWorker
from kubelite.agent.usage import Usage
from kubelite.meta import quantities
from kubelite.meta.types import Obj

log = structlog.get_logger()

STORAGE = "ephemeral-storage"


async def check(context: Context, pods: Pods) -> list[PodWorker]:
    """Evicts every pod that is beyond a limit now, and returns them."""
    limited = [worker for worker in pods.all() if worker.active and is_limited(worker.pod) and not is_critical(worker.pod)]
    if not limited:
        return []
    evicted = []
    layers = {stats.container_id: stats.filesystem_used_bytes for stats in await context.runtime.container_stats()}
    for worker in limited:
        found = await asyncio.to_thread(usage.of_pod, context, worker, layers)
        message = overrun(worker.pod, found)
        if message and worker.active:
            log.info("pod_evicted", pod=worker.name, reason=message.strip())
            worker.evict(message)
            evicted.append(worker)
    return evicted


def is_limited(pod: Obj) -> bool:
    return STORAGE in pod_limits(pod) or any((v.get("emptyDir") or {}).get("sizeLimit") for v in pod["spec"].get("volumes") or ())


def overrun(pod: Obj, found: Usage) -> str:
    """The limit that a pod is beyond, in words; empty where it keeps to all of them."""
    for volume in pod["spec"].get("volumes") or ():
        limit = (volume.get("emptyDir") or {}).get("sizeLimit")
        if limit and 0 < quantities.value(limit) < found.volumes.get(volume["name"], 0):
            return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{quantities.canonical(limit)}". '
    limit = pod_limits(pod).get(STORAGE)
    if limit is not None and found.ephemeral_bytes > quantities.value(limit):
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {quantities.canonical(limit)}. "
    for container in pod["spec"]["containers"]:
        limit, taken = limits_of(container).get(STORAGE), found.containers.get(container["name"])
        if limit and taken and 0 < quantities.value(limit) < taken.layer_bytes + taken.logs_bytes:
            name = container["name"]
            return f'Container {name} exceeded its local ephemeral storage limit "{quantities.canonical(limit)}". '
    return ""
