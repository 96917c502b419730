"""What must be done now and then: logs rotated, tokens in volumes renewed, images that nobody uses removed when the disk fills.

Source: pkg/kubelet/logs, pkg/kubelet/images/image_gc_manager.go, v1.34 (thresholds 85 and 80 %, two minutes of minimum age).
"""

import asyncio
import math

import structlog

from kubelite.agent import logs, machine
from kubelite.agent.context import Context
from kubelite.agent.images import with_tag
from kubelite.agent.pods import Pods
from kubelite.agent.podstate import all_containers
from runtimes.interface import RuntimeFault

log = structlog.get_logger()

INTERVAL_S = 10.0
IMAGES_INTERVAL_S = 300.0
IMAGES_HIGH_PERCENT = 85
IMAGES_LOW_PERCENT = 80
IMAGES_MIN_AGE_S = 120.0


async def run(context: Context, pods: Pods) -> None:
    since_images_s = 0.0
    while True:
        await asyncio.sleep(INTERVAL_S)
        since_images_s += INTERVAL_S
        try:
            await _rotate(context, pods)
            _renew(context, pods)
            if since_images_s >= IMAGES_INTERVAL_S:
                since_images_s = 0.0
                await collect_images(context, pods)
        except (RuntimeFault, OSError) as e:
            log.warning("housekeeping_failed", error=str(e))


async def _rotate(context: Context, pods: Pods) -> None:
    for worker in pods.all():
        directory = context.log_dir(worker.pod)
        for record in worker.observed.containers:
            path = directory / record.name / f"{record.restarts}.log"
            if record.running and await asyncio.to_thread(logs.needs_rotation, path):
                await logs.rotate(path, lambda id_=record.id: context.runtime.reopen_container_log(id_))  # type: ignore[misc]


def _renew(context: Context, pods: Pods) -> None:
    now_s = context.now()
    for worker in pods.all():
        due_s = context.tokens.renew_at_s(worker.uid)
        if due_s is not None and due_s <= now_s:
            worker.work.refresh_volumes()


async def collect_images(context: Context, pods: Pods) -> None:
    """Removes the images least recently used while the disk is fuller than it should be. Those of pods and pinned ones stay."""
    disk = await asyncio.to_thread(machine.disk, context.options.data_dir)
    if not disk.size_bytes or 100 - disk.free_bytes * 100 // disk.size_bytes < IMAGES_HIGH_PERCENT:
        return
    needed = disk.size_bytes * (100 - IMAGES_LOW_PERCENT) // 100 - disk.free_bytes
    freed = await remove_images(context, pods, needed)
    if freed < needed:
        text = "Failed to garbage collect required amount of images."
        text += f" Attempted to free {needed} bytes, but only found {freed} bytes eligible to free."
        context.recorder.node("Warning", "FreeDiskSpaceFailed", text)


async def remove_images(context: Context, pods: Pods, wanted: float = math.inf) -> int:
    """Removes images that nobody uses, those least recently used first, until so many bytes are freed. Returns how many were."""
    used = {with_tag(c.get("image", "")) for worker in pods.all() if worker.active for c, _ in all_containers(worker.pod)}
    # Asked of the runtime: after a start it knows of pods that this agent has not been told of yet.
    used |= {image for made in await context.runtime.list_containers() for image in (made.image, made.image_ref)}
    last_used_s = context.images.last_used_s
    images = await context.runtime.list_images()
    context.images.seen(images)
    freed = 0
    for image in sorted(images, key=lambda i: last_used_s[i.id]):
        if freed >= wanted:
            break
        if image.pinned or used & {image.id, *image.tags, *image.digests}:
            continue
        if context.now() - last_used_s[image.id] < IMAGES_MIN_AGE_S:
            continue
        await context.runtime.remove_image(image.id)
        freed += image.size_bytes
        log.info("image_removed", image=image.id, size_bytes=image.size_bytes)
    return freed


async def remove_ended(context: Context, pods: Pods) -> None:
    """Removes the containers of pods that have ended, with what they wrote. Their logs and statuses stay until the pods go."""
    for worker in pods.all():
        if worker.ended.is_set():
            for record in list(worker.records.values()):
                await context.runtime.remove_container(record.id)
                worker.records.pop(record.id, None)
                log.info("container_removed", pod=worker.name, container=record.name)
