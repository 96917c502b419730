"""Kubernetes in one Python process."""

__version__ = "0.1.0"

#: The Kubernetes release whose API is served.
KUBERNETES_VERSION = "v1.34.3"
