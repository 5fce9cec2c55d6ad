"""JSON log lines: one object a line, one file a process, a request id in each."""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import orjson

from infra.clock import utc
from infra.context import current_request_id
from infra.directives import Directives

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_MAX_BYTES = 10 * 2**20
_BACKUPS = 3
_KEEP_S = 7 * 86_400
_LOGGERS = ("finstage", "infra", "actors", "pipelines", "serve")

_configured = ""


class JsonFormatter(logging.Formatter):
    """Render a record as one JSON line; what was given in `extra` become members."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its newline."""
        line: dict[str, Any] = {
            "timestamp": utc(record.created).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            "event": record.getMessage(),
        }
        if request_id := current_request_id():
            line["request_id"] = request_id
        extra = {k: v for k, v in vars(record).items() if k not in _STANDARD and k[0] != "_"}
        # What a line says of itself stays so, whatever a member is called.
        line.update({f"{k}_" if k in line else k: value for k, value in extra.items()})
        if record.exc_info:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:  # half a character, or a number beyond 64 bits
            return json.dumps(line, default=str)


def setup_logs(log_dir: Path, process: str, level: str) -> None:
    """Send the log lines of this process to `log_dir/PROCESS-PID.jsonl` (10 MiB, three older)."""
    log_dir.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(
        log_dir / f"{process}-{os.getpid()}.jsonl",
        maxBytes=_MAX_BYTES,
        backupCount=_BACKUPS,
        delay=True,
    )
    handler.setFormatter(JsonFormatter(process))
    global _configured
    _configured = level
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


def follow_level(directives: Directives) -> None:
    """Log from the level that the directives name, else from the configured one."""
    for name in _LOGGERS if _configured else ():
        logging.getLogger(name).setLevel(directives.log_level or _configured)


def remove_old_logs(log_dir: Path, now_s: float | None = None) -> int:
    """Delete log files that nobody wrote to for a week; return how many."""
    oldest_s = (time.time() if now_s is None else now_s) - _KEEP_S
    old = [path for path in log_dir.glob("*.jsonl*") if path.stat().st_mtime < oldest_s]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)
