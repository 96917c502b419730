"""Pods and what a runtime shows of them, for the pure parts' tests."""

from typing import Any

from kubelite.agent.observation import Observed, Record, hash_of
from kubelite.meta.types import Obj
from runtimes.interface import ContainerState, Sandbox, SandboxState

NOW_S = 1_000_000.0


def pod(*containers: Obj, deletion_grace_s: int | None = None, status: Obj | None = None, **spec: Any) -> Obj:
    meta: Obj = {"name": "web", "namespace": "default", "uid": "u1", "generation": 1}
    if deletion_grace_s is not None:
        meta |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": deletion_grace_s}
    return {
        "metadata": meta,
        "spec": {"restartPolicy": "Always", "containers": list(containers or (container("c"),)), **spec},
        "status": status or {},
    }


def container(name: str, **fields: Any) -> Obj:
    return {"name": name, "image": "web:1", **fields}


def sidecar(name: str, **fields: Any) -> Obj:
    return container(name, restartPolicy="Always", **fields)


def record(name: str, state: ContainerState = ContainerState.RUNNING, **fields: Any) -> Record:
    """A container of the pod; it began a minute ago and, where it exited, ended just now with code 0."""
    exited = state is ContainerState.EXITED
    values: dict[str, Any] = {
        "id": f"{name}-{fields.get('restarts', 0)}",
        "sandbox_id": "s0",
        "restarts": 0,
        "hash": hash_of(container(name)),
        "created_at_ns": int((NOW_S - 60 + fields.get("restarts", 0)) * 1e9),
        "started_at_ns": int((NOW_S - 60) * 1e9),
        "finished_at_ns": int(NOW_S * 1e9) if exited else 0,
        "exit_code": 0,
        "reason": "",
        "message": "",
        "image": "web:1",
        "image_ref": "sha256:1",
        "backoff_s": 0.0,
        **fields,
    }
    return Record(name=name, state=state, **values)


def exited(name: str, code: int = 0, **fields: Any) -> Record:
    return record(name, ContainerState.EXITED, exit_code=code, **fields)


def sandbox(number: int = 0, *, ready: bool = True) -> Sandbox:
    state = SandboxState.READY if ready else SandboxState.NOT_READY
    return Sandbox(f"s{number}", "web", "default", "u1", number, state, number, {}, {}, ("10.0.0.5",))


def observed(*records: Record, sandboxes: tuple[Sandbox, ...] | None = None) -> Observed:
    return Observed.of((sandbox(),) if sandboxes is None else sandboxes, records)
