"""An operator as users write them with kopf; run by test_operator."""

from typing import Any

import kopf


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.persistence.finalizer = "operator.example.com/finalizer"
    settings.peering.standalone = True
    settings.posting.enabled = True


@kopf.on.login()
def login(**known: Any) -> Any:
    return kopf.login_with_kubeconfig(**known)


@kopf.on.create("balloons")
def created(spec: kopf.Spec, body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
    kopf.event(body, type="Normal", reason="Filled", message=f"filled with {spec['gas']}")
    patch.status["gas"] = spec["gas"]


@kopf.on.update("balloons", field="spec.gas")
def changed(old: str, new: str, patch: kopf.Patch, **_: Any) -> None:
    patch.status["gas"] = f"{new} after {old}"


@kopf.on.delete("balloons")
def deleted(body: kopf.Body, **_: Any) -> None:
    kopf.event(body, type="Warning", reason="Burst", message="it is gone")


@kopf.timer("balloons", interval=0.1)
def rises(status: kopf.Status, patch: kopf.Patch, **_: Any) -> None:
    patch.status["height"] = status.get("height", 0) + 1
