"""Logs as JSON lines on stderr: when, what, which request; nobody's data.

Callers' mistakes are answered and counted, not logged. Any other error is logged once, however many layers tell of it.
Messages of libraries may quote what they were given, so pseudonyms, long numbers (telephones, cards), addresses and
passwords in URLs are blotted out of every line.
"""

from __future__ import annotations

import json
import logging
import re
import warnings
from datetime import UTC, datetime
from typing import Any

from inference_services.request_context import request_id
from inference_services.served import Served
from inference_services.tracing import trace_id

_BLOTS = (
    (re.compile(r"\b[a-z]\d{1,3}-[0-9a-f]{16}\b"), "<pseudonym>"),
    (re.compile(r"(?<![\w.])\+?\d(?:[ -]?\d){8,}(?!\w)"), "<number>"),
    (re.compile(r"//[^/@\s]+@"), "//<secret>@"),
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+"), "<address>"),
)
_TOLD = "_fraud_told"


class JsonLines(logging.Formatter):
    """One JSON object per record, with the request that it belongs to and what `served` says of the process."""

    def __init__(self) -> None:
        super().__init__()
        self.served: Served | None = None

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": blotted(record.getMessage()),
        }
        served = self.served.labels() if self.served else {}
        found = {"request_id": request_id(), "trace_id": trace_id(), **served}
        entry |= {name: value for name, value in found.items() if value}
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and record.exc_info:
            entry["error"] = blotted(f"{type(error).__name__}: {error}")
            entry["traceback"] = blotted(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False)


class OncePerError(logging.Filter):
    """Lets an error pass once, and those that are a caller's mistake never.

    Args:
        mistakes: the classes of the latter.
    """

    def __init__(self, mistakes: tuple[type[BaseException], ...]) -> None:
        super().__init__()
        self._mistakes = mistakes

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return True
        if isinstance(error, self._mistakes) or _TOLD in vars(error):
            return False
        vars(error)[_TOLD] = True
        return True


def configure_logging(mistakes: tuple[type[BaseException], ...] = ()) -> JsonLines:
    """Makes every logger of the process write JSON lines, from warnings on; returns the formatter.

    KServe's and uvicorn's lines for each request are left to the metrics.
    """
    handler, formatter = logging.StreamHandler(), JsonLines()
    handler.setFormatter(formatter)
    handler.addFilter(OncePerError(mistakes))
    # KServe configures its logger anew unless it has a handler.
    for name in ("", "kserve", "uvicorn", "fraud"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.WARNING)
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    # Without a handler to pass it to, uvicorn does not put a line together for each request.
    logging.getLogger("uvicorn.access").propagate = False
    logging.captureWarnings(True)
    # KServe's choice of response class, not something that an operator can act on.
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")
    return formatter


def blotted(text: str) -> str:
    """A text without what could name or betray anybody."""
    for pattern, instead in _BLOTS:
        text = pattern.sub(instead, text)
    return text
