"""The node's stats summary: what containers, pods and the machine use, as the kubelet's /stats/summary gives it.

Source: k8s.io/kubelet/pkg/apis/stats/v1alpha1, pkg/kubelet/stats, v1.34.
"""

import asyncio
import time
from collections.abc import Mapping

from kubelite.agent import machine, usage
from kubelite.agent.context import Context
from kubelite.agent.machine import Disk, Load
from kubelite.agent.observation import Record
from kubelite.agent.pods import Pods
from kubelite.agent.sync import PodWorker
from kubelite.agent.usage import Usage
from kubelite.meta import times
from kubelite.meta.types import Obj
from runtimes.interface import ContainerStats

#: Usage of CPU in billionths of a core, over the time since the sample before.
Rates = dict[str, tuple[int, int]]


class Stats:
    """Makes summaries. Remembers the last one's CPU times, which rates are told from."""

    def __init__(self, context: Context, pods: Pods) -> None:
        self._context = context
        self._pods = pods
        self._samples: Rates = {}

    async def summary(self) -> Obj:
        """A stats.k8s.io Summary. Measures the disk usage of every pod."""
        found = {s.container_id: s for s in await self._context.runtime.container_stats()}
        simulated, directory = self._context.options.simulated, self._context.options.data_dir
        disk = None if simulated else await asyncio.to_thread(machine.disk, directory)
        layers = {id_: stats.filesystem_used_bytes for id_, stats in found.items()}
        samples, self._samples = self._samples, {}
        entries = []
        for worker in self._pods.all():
            taken = Usage() if simulated else await asyncio.to_thread(usage.of_pod, self._context, worker, layers)
            entries.append(self._pod(worker, found, taken, samples, disk))
        return {"node": self._node(await asyncio.to_thread(machine.load), samples, disk), "pods": entries}

    def _node(self, about: Load, samples: Rates, disk: Disk | None) -> Obj:
        now = times.now()
        node: Obj = {
            "nodeName": self._context.options.node_name,
            "startTime": times.format_time(about.booted_at_s),
            "cpu": self._cpu("", time.time_ns(), about.cpu_ns, samples),
            "memory": {
                "time": now,
                "availableBytes": about.memory_bytes - about.memory_working_set_bytes,
                "usageBytes": about.memory_used_bytes,
                "workingSetBytes": about.memory_working_set_bytes,
            },
            "rlimit": {"time": now, "maxpid": about.processes_limit, "curproc": about.processes},
        }
        if disk is not None:
            node["fs"] = _filesystem(disk, disk.size_bytes - disk.free_bytes)
            node["runtime"] = {"imageFs": node["fs"]}
        return node

    def _pod(
        self, worker: PodWorker, found: Mapping[str, ContainerStats], taken: Usage, samples: Rates, disk: Disk | None
    ) -> Obj:
        meta, running = worker.pod["metadata"], [r for r in worker.observed.containers if r.running and r.id in found]
        measured = [found[record.id] for record in running]
        total_ns = sum(s.cpu_usage_core_ns for s in measured)
        newest_ns = max((s.timestamp_ns for s in measured), default=time.time_ns())
        entry: Obj = {
            "podRef": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
            "startTime": times.format_time(worker.memory.started_at_s),
            "containers": [self._container(record, found[record.id], taken, samples, disk) for record in running],
            "cpu": self._cpu(meta["uid"], newest_ns, total_ns, samples),
            "memory": _memory(measured),
            "process_stats": {"process_count": taken.processes},
        }
        if disk is not None:
            entry["volume"] = [{**_filesystem(disk, size), "name": name} for name, size in taken.volumes.items()]
            entry["ephemeral-storage"] = {**_filesystem(disk, taken.ephemeral_bytes), "inodesUsed": taken.inodes}
        return entry

    def _container(self, record: Record, stats: ContainerStats, taken: Usage, samples: Rates, disk: Disk | None) -> Obj:
        entry = {
            "name": record.name,
            "startTime": times.format_time(record.started_at_ns / 1e9),
            "cpu": self._cpu(record.id, stats.timestamp_ns, stats.cpu_usage_core_ns, samples),
            "memory": _memory([stats]),
        }
        if disk is not None:
            own = taken.containers.get(record.name)
            entry["rootfs"] = _filesystem(disk, stats.filesystem_used_bytes)
            entry["logs"] = _filesystem(disk, own.logs_bytes if own else 0)
        return entry

    def _cpu(self, key: str, at_ns: int, total_ns: int, samples: Rates) -> Obj:
        self._samples[key] = (at_ns, total_ns)
        cpu: Obj = {"time": times.format_time(at_ns / 1e9), "usageCoreNanoSeconds": total_ns}
        before_ns, before = samples.get(key, (at_ns, 0))
        if at_ns > before_ns and total_ns >= before:
            cpu["usageNanoCores"] = (total_ns - before) * 1_000_000_000 // (at_ns - before_ns)
        return cpu


def _memory(stats: list[ContainerStats]) -> Obj:
    at_ns = max((s.timestamp_ns for s in stats), default=time.time_ns())
    return {
        "time": times.format_time(at_ns / 1e9),
        "usageBytes": sum(s.memory_usage_bytes for s in stats),
        "workingSetBytes": sum(s.memory_working_set_bytes for s in stats),
        "rssBytes": sum(s.memory_rss_bytes for s in stats),
    }


def _filesystem(disk: Disk, used_bytes: int) -> Obj:
    return {
        "time": times.now(),
        "availableBytes": disk.free_bytes,
        "capacityBytes": disk.size_bytes,
        "usedBytes": used_bytes,
        "inodesFree": disk.inodes_free,
        "inodes": disk.inodes,
    }
