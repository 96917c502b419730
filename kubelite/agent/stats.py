"""The node's stats summary: what containers use, as the kubelet's /stats/summary gives it.

Source: k8s.io/kubelet/pkg/apis/stats/v1alpha1, v0.34.
"""

import asyncio
from collections import defaultdict

from kubelite.agent import machine
from kubelite.agent.context import Context
from kubelite.agent.pods import Pods
from kubelite.meta import times
from kubelite.meta.types import Obj


async def summary(context: Context, pods: Pods) -> Obj:
    """A stats.k8s.io Summary."""
    by_container = {s.container_id: s for s in await context.runtime.container_stats()}
    now = times.now()
    found = []
    totals: dict[str, int] = defaultdict(int)
    for worker in pods.all():
        meta = worker.pod["metadata"]
        containers = []
        sums: dict[str, int] = defaultdict(int)
        for record in worker.observed.containers:
            stats = by_container.get(record.id)
            if stats is None or not record.running:
                continue
            sums["cpu"] += stats.cpu_usage_core_ns
            sums["memory"] += stats.memory_working_set_bytes
            containers.append(
                {
                    "name": record.name,
                    "startTime": times.format_time(record.started_at_ns / 1e9),
                    "cpu": {"time": now, "usageCoreNanoSeconds": stats.cpu_usage_core_ns},
                    "memory": {
                        "time": now,
                        "workingSetBytes": stats.memory_working_set_bytes,
                        "rssBytes": stats.memory_rss_bytes,
                        "usageBytes": stats.memory_usage_bytes,
                    },
                    "rootfs": {"time": now, "usedBytes": stats.filesystem_used_bytes},
                }
            )
        totals["cpu"] += sums["cpu"]
        found.append(
            {
                "podRef": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
                "startTime": times.format_time(worker.memory.started_at_s),
                "containers": containers,
                "cpu": {"time": now, "usageCoreNanoSeconds": sums["cpu"]},
                "memory": {"time": now, "workingSetBytes": sums["memory"]},
            }
        )
    available = await asyncio.to_thread(machine.available_memory_bytes)
    node = {
        "nodeName": context.options.node_name,
        "cpu": {"time": now, "usageCoreNanoSeconds": totals["cpu"]},
        "memory": {"time": now, "availableBytes": available, "workingSetBytes": max(context.memory_bytes - available, 0)},
    }
    return {"node": node, "pods": found}
