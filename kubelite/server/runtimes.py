"""Finds the container runtime to use: the one that was named, or the first that can run here."""

from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

import structlog

from kubelite.server.settings import Settings, SettingsError
from runtimes.interface import BackendClass, BackendOptions, Runtime

log = structlog.get_logger(__name__)

#: In which order `auto` tries. The simulation is last: it runs nothing.
ORDER = ("containerd", "cri", "docker", "fake")


@dataclass(frozen=True, slots=True)
class Chosen:
    name: str
    runtime: Runtime

    @property
    def simulated(self) -> bool:
        return self.name == "fake"


def available() -> dict[str, BackendClass]:
    """The installed backends by name."""
    return {point.name: cast(BackendClass, point.load()) for point in entry_points(group="kubelite.runtimes")}


def options(settings: Settings, data_dir: Path) -> BackendOptions:
    return BackendOptions(
        state_dir=str(data_dir / "runtime"),
        endpoint=settings.runtime_endpoint,
        registries_dir=str(settings.registries_dir),
        cni_conf_dir=str(data_dir / "cni"),
    )


def choose(settings: Settings, data_dir: Path) -> Chosen:
    """Raises SettingsError saying what is missing and the remedy."""
    wanted = options(settings, data_dir)
    points = {point.name: point for point in entry_points(group="kubelite.runtimes")}
    if settings.runtime != "auto":
        point = points.get(settings.runtime)
        if point is None:
            raise SettingsError(f"--runtime {settings.runtime} is not installed; there are {', '.join(sorted(points))}")
        backend: Any = point.load()
        lacking = list(backend.missing(wanted))
        if lacking:
            raise SettingsError(f"--runtime {settings.runtime} can't be used: {'; '.join(lacking)}")
        return Chosen(settings.runtime, backend(wanted))
    tried: dict[str, str] = {}
    for name in ORDER:
        point = points.get(name)
        if point is None:
            continue
        backend = point.load()
        lacking = list(backend.missing(wanted))
        if not lacking:
            if name == "fake":
                log.warning("no_container_runtime", using="fake: pods are simulated and nothing is run", tried=tried)
            else:
                log.info("runtime_chosen", runtime=name, tried=tried or None)
            return Chosen(name, backend(wanted))
        tried[name] = "; ".join(lacking)
    raise SettingsError(f"there is no container runtime here: {tried}; run `kubelite check`")
