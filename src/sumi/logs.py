"""Logs as lines of JSON: when, how grave, by whom, and what. Of an error, where it was raised, and none of the values it was about."""

import json
import logging
import sys
import time
from types import TracebackType
from typing import Any


class Lines(logging.Formatter):
    """Each record as one line. A message that is a JSON object already gives its fields."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line: dict[str, Any] = {"at": at, "level": record.levelname.lower(), "by": record.name, "process": record.process}
        said = record.getMessage()
        try:
            told = json.loads(said)
        except ValueError:
            told = None
        line |= told if isinstance(told, dict) else {"message": said}
        if record.exc_info and record.exc_info[0] is not None:
            line |= {"error": record.exc_info[0].__name__, "trace": _places(record.exc_info[2])}
        return json.dumps(line)


def _places(trace: TracebackType | None) -> list[str]:
    """Where an error went through, by files of the code and their lines."""
    places = []
    while trace is not None:
        places.append(f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return places


def to_stderr(level: int) -> None:
    """Sends what sumi logs from a level on to standard error, and warnings of others."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("sumi").setLevel(level)
