"""Termination messages: what a container left in its message file, or the end of its log.

Source: pkg/kubelet/kuberuntime/kuberuntime_container.go getTerminationMessage, v1.34 (limits).
"""

import os
from pathlib import Path

from kubelite.agent import observation as keys
from kubelite.agent.observation import Record

FILE_LIMIT = 4096
LOG_LIMIT = 2048
LOG_LINES = 80


def read(record: Record, message_file: Path, log_file: Path) -> str:
    """The message of a container that ended; empty where it left none. Blocks on (small) file reads."""
    text = _file_end(message_file)
    if text or record.exit_code == 0:
        return text
    if record.annotations.get(keys.MESSAGE_POLICY_ANNOTATION) == "FallbackToLogsOnError":
        return _log_end(log_file)
    return ""


def _file_end(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - FILE_LIMIT))
            return stream.read(FILE_LIMIT).decode(errors="replace")
    except OSError:
        return ""  # never made, or the pod's directory is gone


def _log_end(path: Path) -> str:
    """The text of the last lines of a log in the CRI's format (time, stream, tag, text)."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 16 * 1024))
            lines = stream.read().splitlines()
    except OSError:
        return ""
    texts = []
    for line in lines[-LOG_LINES:]:
        parts = line.split(b" ", 3)
        if len(parts) == 4:
            texts.append(parts[3] + (b"" if parts[2].startswith(b"P") else b"\n"))
    return b"".join(texts)[-LOG_LIMIT:].decode(errors="replace")
