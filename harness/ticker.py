"""Lines of progress for work before the first run: reading, comparing and tokenising large files. No torch here."""

from __future__ import annotations

import logging
import time

LOG = logging.getLogger("lethe.progress")
"""Where the lines go; the command line shows them on stderr."""
SECONDS = 5.0
"""Between two lines; what takes less says nothing."""


class Ticker:
    """Says now and then how far a piece of work has come."""

    def __init__(self, what: str, total: int = 0):
        self.what, self.total = what, total
        self.done, self.last = 0, time.monotonic()

    def tick(self, number: int = 1) -> None:
        """So many more are done."""
        self.done += number
        now = time.monotonic()
        if now - self.last >= SECONDS:
            self.last = now
            of = f" of {self.total:,}" if self.total else ""
            LOG.info("%s: %s%s", self.what, f"{self.done:,}", of)
