"""The errors of Lethe that a caller sees."""

from __future__ import annotations


class PlanError(Exception):
    """What the user asked cannot be done as asked.

    Each fault is one sentence that names the rule, the value given and the cure.
    """

    def __init__(self, *faults: str):
        self.faults = list(faults)
        super().__init__("\n".join(faults))


class InternalError(RuntimeError):
    """A fault of Lethe's own: the message says what happened and which file holds the traceback."""
