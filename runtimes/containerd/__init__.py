"""containerd through its CRI plugin, and through its own API for what the CRI of 1.6 lacks: events and importing images.

Without an endpoint the backend runs a containerd of its own (`daemon`), which outlives this process. It brings the sandbox image
itself, so a pod needs a registry for its own images only.
"""

from runtimes.containerd.backend import Backend

__all__ = ["Backend"]
