"""Verifiable instructions (IFEval, Zhou et al. 2023, arXiv:2311.07911), checked by lm-eval's own checkers.

They need the package langdetect and, for sentences and capital words, nltk's `punkt_tab`. An item whose checker cannot run
here, or tosses a coin, is left out and said so: a number that is wrong is worse than one that is missing. (Two of IFEval's 541
ask for so many "#" or "!"; the checker of letters takes a to z only and puts one of its own choice in their place.)
"""

from __future__ import annotations

import contextlib
import io
import random
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from harness.errors import PlanError

PRIMARY = "prompt_level_strict_acc"
METRICS = (PRIMARY, "prompt_level_loose_acc", "instructions_strict", "instructions_loose")
PUNKT = "nltk's punkt_tab is not here (python -m nltk.downloader punkt_tab; offline: copy it, and set NLTK_DATA)"
DRAWN = "lm-eval's checker draws at random what their kwargs do not say, or say in a way it does not take"
PATIENCE = 10.0
"""Seconds that a network which does not answer is waited for."""


@lru_cache(maxsize=1)
def _checkers() -> Any:
    """Return lm-eval's module; importing it looks for nltk's data in the network where they are not here."""
    try:
        with _brief(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            from lm_eval.tasks.ifeval import utils
    except ImportError as error:
        raise PlanError(f"IFEval's checkers need the package {error.name}: pip install 'lm-eval[ifeval]'") from None
    steady()
    return utils


@contextlib.contextmanager
def _brief() -> Iterator[None]:
    """Wait for no connection longer than `PATIENCE` inside the context."""
    # nltk looks for its data in the network, and would wait for minutes.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def steady() -> None:
    """Seed langdetect, which draws at random, so that the same text has the same language in every run."""
    import sys

    if module := sys.modules.get("langdetect"):
        module.DetectorFactory.seed = 0


def known() -> frozenset[str]:
    """Return the instructions that have a checker."""
    return frozenset(_checkers().instructions_registry.INSTRUCTION_DICT)


def scores(doc: Mapping[str, Any], output: str) -> dict[str, float]:
    """Return whether all instructions are followed, and the share that is.

    `loose` forgives first and last lines and asterisks.
    """
    # As lm-eval's own task hands items over, so that its scores are reproduced.
    item = {"key": 0, "prompt": doc["prompt"], "instruction_id_list": doc["instructions"], "kwargs": doc["settings"]}
    results = _checkers().process_results(item, [output])
    shares = {kind: results[f"inst_level_{kind}_acc"] for kind in ("strict", "loose")}
    whole = {f"prompt_level_{kind}_acc": float(results[f"prompt_level_{kind}_acc"]) for kind in shares}
    return whole | {f"instructions_{kind}": sum(share) / len(share) for kind, share in shares.items()}


def ifeval_item(doc: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item as lm-eval's task has it, as it is called here."""
    return {
        "prompt": doc["prompt"],
        "instructions": doc["instruction_id_list"],
        "settings": [options or {} for options in doc["kwargs"]],
    }


def unrunnable(doc: Mapping[str, Any]) -> str:
    """Return why an item cannot be scored here; "" where it can. Raises ValueError for settings its checkers do not take."""
    # Checkers draw from the global generator; whether one did shows in its state.
    before = random.getstate()
    try:
        scores(doc, "One sentence HERE. Another one.\n\nAnd a third: it is the last.")
    except LookupError as error:
        # A plain LookupError is nltk's, for data that are not here.
        if isinstance(error, (KeyError, IndexError)):
            raise ValueError(f"{type(error).__name__}: {error}") from None
        return PUNKT
    except (TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None

    # A checker that has drawn would judge the same answer otherwise next time.
    if random.getstate() != before:
        random.setstate(before)
        return DRAWN
    return ""


def left_out(name: str, reasons: Sequence[str]) -> list[str]:
    """Return what a report says of a file's items, given why each is left out ("" for those that are not)."""
    counts = Counter(filter(None, reasons))
    if not counts:
        return []
    causes = [reason if len(counts) == 1 else f"{count:,} since {reason}" for reason, count in counts.items()]
    return [f"{name}: {counts.total():,} of {len(reasons):,} items are left out: {'; '.join(causes)}."]
