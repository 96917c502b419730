"""ImageLocality: nodes that have a pod's images already are better, by the size of what they need not pull.

Source: plugins/imagelocality, v1.34.
"""

from typing import ClassVar

import numpy as np

from kubelite.scheduler.framework import MAX_SCORE, Memory, Rows, Scope
from kubelite.scheduler.snapshot import Floats, Mask, Snapshot
from kubelite.scheduler.templates import Template

SMALLEST = 23 * 1024 * 1024
LARGEST = 1000 * 1024 * 1024


class ImageLocality:
    name: ClassVar = "ImageLocality"
    scope: ClassVar = Scope.NODES
    weight: ClassVar = 1.0

    def applies(self, snapshot: Snapshot, template: Template, memory: Memory) -> bool:
        return any(image in snapshot.images for image in template.images)

    def score(self, snapshot: Snapshot, template: Template, rows: Rows, memory: Memory) -> Floats:
        total = np.zeros(snapshot.size, np.float64)
        for image in template.images:
            known = snapshot.images.get(image)
            if known:
                # An image on few nodes counts little, so that its pods don't all end up there.
                spread = len(known.rows) / max(snapshot.node_count, 1)
                total[list(known.rows)] += int(known.size_bytes * spread)
        most = LARGEST * len(template.images)
        result: Floats = np.floor(MAX_SCORE * (np.clip(total, SMALLEST, most) - SMALLEST) / (most - SMALLEST))
        return result[rows]

    def normalize(self, scores: Floats, feasible: Mask) -> Floats:
        return scores
