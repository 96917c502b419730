"""From options and a configuration file to Settings, and from errors to what a user reads."""

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

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
    return Settings(**values)


def explained(error: BaseException) -> str | None:
    """What to tell of an error that can be foreseen, in a line that says what to do; None for one that can't: a flaw of ours."""
    from kubelite.meta.errors import ApiError

    if isinstance(error, Problem | SettingsError):
        return str(error)
    if isinstance(error, ApiError):
        return error.message
    if isinstance(error, PermissionError):
        return f"{error.filename or error}: permission denied; run as root, or name another --data-dir"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}; mend that, or name another --data-dir"
    if isinstance(error, OSError):
        return str(error)
    from kubelite.auth.pki import CertificateError
    from kubelite.store.contract import StoreError

    return str(error) if isinstance(error, CertificateError | StoreError) else None


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        loaded = yaml.safe_load(path.read_text())
    except OSError as e:
        raise SettingsError(f"--config {path}: {e.strerror}; give a readable YAML file") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise SettingsError(f"--config {path} is not YAML: {e}") from e
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise SettingsError(f"--config {path}: expected options and values, such as `https-port: 6443`")
    known = {f.name: f.type for f in fields(Settings)}
    values: dict[str, Any] = {}
    for key, value in loaded.items():
        name = str(key).replace("-", "_")
        name = _ALIASES.get(name, name)
        if name not in known:
            listed = ", ".join(sorted(n.replace("_", "-") for n in known))
            raise SettingsError(f"--config {path}: unknown option {key!r}; known are {listed}")
        if value is None:
            continue  # an option without a value is one that is not given
        try:
            values[name] = _typed(name, known[name], value)
        except ValueError as e:
            raise SettingsError(f"--config {path}: {key} must be {e}, not {value!r}") from None
    return values


def _typed(name: str, wanted: Any, value: Any) -> Any:
    """The value if it can stand for the field, which YAML does not see to. Raises ValueError with what it must be."""
    if name == "node_port_range":
        return _port_range(value)
    if name in _LISTS:
        if isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            return value
        raise ValueError("a name or a list of names")
    if wanted is bool:
        if not isinstance(value, bool):
            raise ValueError("true or false")
    elif wanted is int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("a number")
    elif not isinstance(value, str):
        choices = [choice for choice in get_args(wanted) if isinstance(choice, str)]
        raise ValueError(f"one of {', '.join(choices)}" if choices else "a text")
    return value


def _port_range(value: Any) -> tuple[int, int]:
    first, dash, last = value.partition("-") if isinstance(value, str) else ("", "", "")
    if dash and first.strip().isdigit() and last.strip().isdigit() and 0 < int(first) <= int(last) <= 65535:
        return int(first), int(last)
    raise ValueError("two ports such as 30000-32767")
