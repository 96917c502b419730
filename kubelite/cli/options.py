"""From options and a configuration file to Settings."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from kubelite.server.settings import Settings, SettingsError


class Problem(Exception):
    """Something a command can foresee; its message says what to do."""


#: Options that take several values, separated by commas or given again.
_LISTS = ("disable",)
_PATHS = ("data_dir", "images", "registries_dir")
#: Names in a file that differ from the field's.
_ALIASES = {"registries": "registries_dir"}


def settings(given: dict[str, Any]) -> Settings:
    """Raises SettingsError."""
    values: dict[str, Any] = {}
    config = given.get("config")
    if config is not None:
        values |= _read(Path(config))
    values |= {name: value for name, value in given.items() if value is not None and name != "config"}
    for name in _LISTS:
        if name in values:
            items = values[name] if isinstance(values[name], list) else [values[name]]
            values[name] = frozenset(part.strip() for item in items for part in str(item).split(",") if part.strip())
    for name in _PATHS:
        if name in values:
            values[name] = Path(values[name]).expanduser().absolute()
    try:
        return Settings(**values)
    except TypeError as e:
        raise SettingsError(str(e)) from e


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        loaded = yaml.safe_load(path.read_text())
    except OSError as e:
        raise SettingsError(f"--config {path}: {e.strerror}; give a readable YAML file") from e
    except yaml.YAMLError as e:
        raise SettingsError(f"--config {path} is not YAML: {e}") from e
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise SettingsError(f"--config {path}: expected options and values, such as `https-port: 6443`")
    known = {f.name: f for f in fields(Settings)}
    values: dict[str, Any] = {}
    for key, value in loaded.items():
        name = str(key).replace("-", "_")
        name = _ALIASES.get(name, name)
        if name not in known:
            listed = ", ".join(sorted(n.replace("_", "-") for n in known))
            raise SettingsError(f"--config {path}: unknown option {key!r}; known are {listed}")
        if known[name].type in (int, "int") and not isinstance(value, int):
            raise SettingsError(f"--config {path}: {key} must be a number, not {value!r}")
        values[name] = value
    return values
