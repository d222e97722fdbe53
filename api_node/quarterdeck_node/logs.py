"""Logs: one line of JSON per record, on standard error."""

from __future__ import annotations

import logging
import time
from typing import Any

from pydantic_core import to_json

# What every record of the logging module has: whatever else is on one was given as `extra`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    """`{"ts", "level", "logger", "message", …extra}` with UTC times; an exception's traceback is its member `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """Part of logging.Formatter."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "ts": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Whatever cannot be JSON is shown as text: a log line must never be what fails.
        return to_json(line, fallback=str, inf_nan_mode="strings").decode()


def configure(level: str) -> None:
    """Log to standard error from now on.

    Args:
        level: the least severe that is logged, e.g. ``info``.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # One line per poll would be written by httpx: its own level keeps it to what goes wrong.
    logging.getLogger("httpx").setLevel(logging.WARNING)
