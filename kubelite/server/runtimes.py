"""Finds the container runtime to use: the one that was named, or the first that can run here."""

import functools
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, cast

import structlog

from kubelite.server.settings import Settings, SettingsError
from runtimes.interface import BackendClass, BackendOptions, Runtime, RuntimeFault

log = structlog.get_logger(__name__)

#: In which order `auto` tries. The simulation is last: it runs nothing.
ORDER = ("containerd", "cri", "docker", "fake")
#: Whose socket an endpoint is taken for where no runtime is named.
_ENDPOINTS_OF = "containerd"


@dataclass(frozen=True, slots=True)
class Chosen:
    name: str
    runtime: Runtime

    @property
    def simulated(self) -> bool:
        return self.name == "fake"

    async def stop(self) -> None:
        """Disconnects; containers go on, but a daemon of ours that has none to look after does not stay behind."""
        try:
            await self.runtime.end_idle()
        except RuntimeFault as e:
            log.warning("runtime_left_as_it_is", runtime=self.name, error=str(e))
        finally:
            await self.runtime.stop()


@functools.cache
def _points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="kubelite.runtimes")}


def available() -> dict[str, BackendClass]:
    """The installed backends by name."""
    return {name: cast(BackendClass, point.load()) for name, point in _points().items()}


def unbuilt() -> list[str]:
    """The runtimes that have a name and no backend yet."""
    return [name for name in ORDER if name not in _points()]


def options(settings: Settings, data_dir: Path) -> BackendOptions:
    return BackendOptions(
        state_dir=str(data_dir / "runtime"),
        endpoint=settings.runtime_endpoint,
        registries_dir=str(settings.registries_dir),
        cni_conf_dir=str(data_dir / "cni"),
    )


def verify(settings: Settings) -> None:
    """Finds out before anything starts whether the runtime that was named can be used. Raises SettingsError."""
    if settings.runtime != "auto" or settings.runtime_endpoint:
        _named(settings, options(settings, settings.data_dir / "node"))


def _named(settings: Settings, wanted: BackendOptions) -> tuple[str, Any]:
    """The backend that was named, by itself or by what listens at the endpoint. Raises SettingsError."""
    name = _ENDPOINTS_OF if settings.runtime == "auto" else settings.runtime
    point = _points().get(name)
    if point is None:
        built = " or ".join(n for n in ORDER if n in _points())
        raise SettingsError(f"--runtime {name} is not built yet: use {built} (a simulation), or auto to take what is there")
    backend: Any = point.load()
    lacking = list(backend.missing(wanted))
    if lacking:
        remedy = "" if name == "fake" else "; or simulate pods with --runtime fake"
        raise SettingsError(f"--runtime {name} can't be used: {'; '.join(lacking)}{remedy}")
    return name, backend


def choose(settings: Settings, data_dir: Path) -> Chosen:
    """Raises SettingsError saying what is missing and the remedy."""
    wanted = options(settings, data_dir)
    if settings.runtime != "auto" or settings.runtime_endpoint:
        name, backend = _named(settings, wanted)
        return Chosen(name, backend(wanted))
    tried: dict[str, str] = {}
    for name in ORDER:
        point = _points().get(name)
        if point is None:
            continue
        backend = point.load()
        lacking = list(backend.missing(wanted))
        if not lacking:
            if name == "fake":
                log.warning("no_container_runtime", using="fake: pods are simulated and nothing is run", tried=tried)
            else:
                log.info("runtime_chosen", runtime=name, **({"tried": tried} if tried else {}))
            return Chosen(name, backend(wanted))
        tried[name] = "; ".join(lacking)
    raise SettingsError(f"there is no container runtime here: {tried}; run `kubelite check`")
