"""Logging of the platform's processes: one line of ``key=value`` pairs for each event, on stderr.

Called by the commands that run servers. The parts of the platform write messages that are pairs already
(``role=history event=restarting``); other messages become ``msg="…"``.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from enum import StrEnum

_PAIRS = re.compile(r"[A-Za-z_][\w.]*=")


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class KeyValueFormatter(logging.Formatter):
    """Formats an event as one line: ``ts=… level=… logger=… <pairs>``; a traceback becomes one quoted value."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of ``record``."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        message = " ".join(record.getMessage().splitlines())
        pairs = message if _PAIRS.match(message) else f"msg={quoted(message)}"
        line = f"ts={moment}.{int(record.msecs):03d}Z level={record.levelname.lower()} logger={record.name} {pairs}"
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line += f" error={quoted(f'{type(error).__name__}: {error}')}"
            line += f" traceback={quoted(self.formatException(record.exc_info))}"
        return line


def quoted(text: str) -> str:
    """``text`` as a value of a pair: in double quotes, with line breaks and quotes escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r").replace("\n", "\\n")
    return f'"{escaped}"'


def configure_logging(level: LogLevel) -> None:
    """Send everything from ``level`` on to stderr, in the format above. Libraries log from ``warning`` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValueFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("perdure").setLevel(level.value.upper())
