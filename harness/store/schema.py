"""The version of scores, the columns of item tables, and the hash that names a question."""

from __future__ import annotations

import hashlib
import json
from typing import Any

PROTOCOL = 3
"""Raised whenever old and new scores may not share a table."""


SCHEMA_VERSION = 1


ITEM_COLUMNS = {
    "fraction": "float64",  # share of the budget spent when scored; 1 for `final`
    "alpha": "float64",  # interpolation weight towards the tuned model; 1 for `final`
    "task": "string",  # e.g. phantom_facts_choice
    "family": "string",  # e.g. facts: tasks of one family are averaged first
    "group": "string",  # domain | general
    "seen": "boolean",  # general families: may methods draw on this family? null for domain
    "channel": "string",  # likelihood | choice | generation | degeneration | calibration | drift
    "metric": "string",  # e.g. exact_match, rep3_word, nll, kl_to_base
    "primary": "boolean",  # the metric that enters the headline numbers of its task
    "higher_better": "boolean",
    "item": "string",  # stable id: the same item has the same id in every run
    "cluster": "string",  # items that share a template, passage or entity resample together
    "score": "float64",  # NaN: undefined for this item (never a sentinel)
    "chance": "float64",  # chance level of a primary metric, 0 where there is none
    "prompt": "string",  # texts stand on the primary row only
    "output": "string",
    "target": "string",
}
"""The one layout of stored scores: one row per item and metric."""


TEXTS = ("prompt", "output", "target")


NAMES = tuple(name for name, kind in ITEM_COLUMNS.items() if kind == "string" and name not in TEXTS)


def key_of(question: Any) -> str:
    """16 hex digits naming a JSON-serialisable question; equal questions have equal keys."""
    text = json.dumps(question, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
