"""Keeps kubelite's log off the standard output of the tests that use it, which may compare that with what they expect."""

import logging
import sys
from typing import Any

import structlog

_OURS = ("kubelite", "runtimes")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


def to_logging() -> None:
    """Sends kubelite's log to Python's `logging`, where pytest shows it for a test that failed and leaves out what is below
    its log level. Loggers of others stay as they are; who has configured structlog is left alone."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[_drop_unwanted, *structlog.get_config()["processors"]],
        logger_factory=_logger,
    )


def _logger(*names: Any) -> Any:
    name = str(names[0]) if names else _calling_module()
    return logging.getLogger(name) if name.partition(".")[0] in _OURS else structlog.PrintLogger()


def _calling_module() -> str:
    """The first module on the stack that is not structlog's, for a logger that was made without a name."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "structlog":
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


def _drop_unwanted(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Before anything is formatted."""
    if isinstance(logger, logging.Logger) and not logger.isEnabledFor(_LEVELS.get(method, logging.ERROR)):
        raise structlog.DropEvent
    return event
