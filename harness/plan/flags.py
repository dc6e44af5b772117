"""Options of the plan as flags of a command."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from harness.plan.plan import Plan, kind_of

MEASURING = (
    *("data", "test", "general", "contamination", "rules", "answer_format", "mode", "max_length"),
    *("suites", "domain_metric", "limit", "backend", "scoring", "device", "devices", "threads", "workers", "ray"),
    *("name", "out", "require"),
)
"""Options that mean something where nothing is trained."""


def add_flags(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Give a parser a flag for each of these options; one that is not given is absent from what it returns."""
    for field in dataclasses.fields(Plan):
        if field.name not in names:
            continue
        truth = kind_of(field.name) is bool
        alone: dict[str, Any] = {"nargs": "?", "const": True} if truth else {}
        shown = "" if field.default is None else f" (default: {field.default})"
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=_truth if truth else kind_of(field.name),
            default=argparse.SUPPRESS,
            metavar=field.name.upper(),
            help=field.metadata["help"].replace("%", "%%") + shown,
            **alone,
        )


def _truth(text: str) -> bool:
    """`--flag`, `--flag true`, `--flag false`."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
    return text.lower() == "true"
