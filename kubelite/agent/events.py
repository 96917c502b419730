"""What the agent tells users about pods and its node: Events, handed to the session as they happen.

The control-plane half counts repeats and limits floods; here only the object is made. Telling never waits and never fails.
"""

from collections.abc import Callable
from typing import Literal

from kubelite.meta import times
from kubelite.meta.types import Obj

LONGEST_MESSAGE = 1024


class Recorder:
    """Makes events of one node and passes them on."""

    def __init__(self, node_name: str, report: Callable[[Obj], None]) -> None:
        self._node_name = node_name
        self._report = report

    def pod(self, pod: Obj, kind: Literal["Normal", "Warning"], reason: str, message: str, container: str = "") -> None:
        """Tells of a pod, or of the container whose field path (`spec.containers{web}`) is given."""
        meta = pod["metadata"]
        involved = {
            "kind": "Pod",
            "apiVersion": "v1",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
            "resourceVersion": meta.get("resourceVersion", ""),
        }
        if container:
            involved["fieldPath"] = container
        self._send(involved, kind, reason, message)

    def node(self, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Tells of the node. Its uid is its name, as kubelets write it, since an agent may speak before its Node exists."""
        self._send({"kind": "Node", "name": self._node_name, "uid": self._node_name}, kind, reason, message)

    def _send(self, involved: Obj, kind: str, reason: str, message: str) -> None:
        if len(message) > LONGEST_MESSAGE:
            message = message[: LONGEST_MESSAGE - 3] + "..."
        self._report(
            {
                "involvedObject": involved,
                "reason": reason,
                "message": message,
                "type": kind,
                "source": {"component": "kubelet", "host": self._node_name},
                "lastTimestamp": times.now(),
            }
        )


def field_path(pod: Obj, name: str) -> str:
    """`spec.containers{web}`: how an event says which container it is about."""
    for field in ("initContainers", "containers", "ephemeralContainers"):
        if any(c["name"] == name for c in pod["spec"].get(field) or ()):
            return f"spec.{field}{{{name}}}"
    return ""
