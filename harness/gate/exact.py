"""Figures of a run that have no noise: what was asked of it, what it trained on, what it cost, and which runs are the same.

Two checks of one question agree on every one of them, so they have no tolerance: a difference is a finding, however small.
Pure functions of JSON and tables. No torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.gate.record import Evidence, Figures, ItemScores, Machine, RowEvidence, RunEvidence, items_of
from harness.store.schema import RunEntry
from harness.vocabulary import Role

ROUNDING = 1e-9
"""Relative difference of two prices that their fit (a least-squares solution) may have on two processors."""
SAMPLED = ("generation", "dev")
"""Accounts that charge as many tokens as a model says, which another processor's rounding may change."""
ALWAYS = ("seed", "asked", "same weights as", "same scores as")
"""Groups of figures that are compared whatever the two checks were asked: without them nothing is paired."""
BITS = ("weights", "scores")
"""Groups that agree on one machine only. A difference says that something changed, and not that it is worse."""
SHOWN = 3
"""Differing figures of one group that a sentence spells out."""


@dataclass(frozen=True)
class Difference:
    """A group of exact figures that has changed."""

    seed: str
    group: str
    sentence: str

    @property
    def only_bits(self) -> bool:
        """Whether other bits are all that differs: the question and its price are the same."""
        return self.group in BITS


def figures_of(entry: RunEntry, prompt_hashes: dict[str, str]) -> Figures:
    """Return the exact figures of one run.

    `entry` is as `read_comparison` gives it, `prompt_hashes` is task -> hash of what it asked. A figure's group is its name
    up to the first `/`.
    """
    # A run that failed has no records, so it has few figures; the missing ones count as different.
    run = entry.get("run") or {}
    ledger = entry.get("ledger") or {}
    question = run.get("asked", {})

    # What the run is: with which seed, on which model, and to which bits.
    figures = {"seed": question.get("seed"), "model": question.get("model", {}).get("hash")}
    figures["weights"] = run.get("happened", {}).get("weights_hash")
    figures |= {f"asked/{task}": digest for task, digest in prompt_hashes.items()}
    figures |= {f"training/{name}": value for name, value in (question.get("training") or {}).items()}
    figures |= {f"examples/{name}": value for name, value in (question.get("examples") or {}).items()}

    # What was spent, in units that do not depend on how fast the machine was.
    if ledger:
        figures |= {f"ledger/{name}": ledger.get(name) for name in ("meter", "allowed", "steps")}
        figures |= {f"ledger/{source} tokens": count for source, count in ledger.get("tokens", {}).items()}
    for account, spent in ledger.get("accounts", {}).items():
        figures |= {f"ledger/{account} {name}": spent[name] for name in ("flops", "tokens", "calls")}
    return {name: value for name, value in sorted(figures.items()) if value is not None}


def asked_of(table: pd.DataFrame) -> dict[str, str]:
    """Return task -> hash of what it asked: its items with prompts and targets, whatever their order and the answers."""
    # An item may have several rows, some without its texts: the one that has them counts.
    lines = table.sort_values(["prompt", "target"], na_position="last").drop_duplicates(["task", "item"]).astype(object)
    hashes = {}
    for task, part in lines.where(lines.notna(), None).groupby("task", sort=True):
        items = sorted(json.dumps(line) for line in part[["item", "prompt", "target"]].to_numpy().tolist())
        hashes[str(task)] = _digest(items)
    return hashes


def add_relations(rows: dict[str, RowEvidence]) -> None:
    """Write into each run's figures which other runs ended in the same weights, and which have the same scores throughout.

    Runs that were different and are the same now were scored by a wrong model, trained from a wrong seed or not trained at all.
    """
    runs: dict[str, RunEvidence] = {}
    for row_name, row in rows.items():
        for seed, run in row["seeds"].items():
            runs[f"{row_name}, seed {seed}"] = run
    # By bits: two runs that are equal by chance to the last digit do not exist.
    weights = {name: run["exact"].get("weights") for name, run in runs.items()}
    scores = {name: _digest(run["scores"]) if run["scores"] else None for name, run in runs.items()}
    for relation, values in (("same weights as", weights), ("same scores as", scores)):
        for name, run in runs.items():
            equal = [other for other, value in values.items() if value == values[name] and other != name]
            run["exact"][relation] = equal if values[name] is not None else []


def machine_of(evidence: Evidence) -> Machine | None:
    """Return what the bits of a result depend on beside the code; None where that is not known, or a GPU computed."""
    where = evidence.get("where") or {}
    machine = where.get("machine") or {}
    facts: Machine = {
        "processor": machine.get("processor"),
        "cpu_capability": machine.get("cpu_capability"),
        "torch": (where.get("packages") or {}).get("torch"),
        "threads": evidence["question"].get("threads"),
        "device": evidence.get("device"),
    }
    on_cpu = str(facts["device"]).startswith("cpu")
    complete = all(value is not None for value in facts.values())
    return facts if on_cpu and complete else None


def same_bits(then: Evidence, now: Evidence) -> bool:
    """Return whether an unchanged tree must give the same bits in both: one question on one machine."""
    return machine_of(then) is not None and machine_of(then) == machine_of(now) and same_question(then, now)


def same_question(then: Evidence, now: Evidence) -> bool:
    """Return whether two pieces of evidence answer the same question."""
    return then["question"] == now["question"]


def differences(row: str, then: Evidence, now: Evidence) -> Iterator[Difference]:
    """Yield each group of figures of a row's runs in which two pieces of evidence differ and may not."""
    # Bits agree only on one machine, with one version of torch; elsewhere only questions and prices
    # are compared.
    bits = same_bits(then, now)
    old_runs = then["rows"][row]["seeds"]
    new_runs = now["rows"][row]["seeds"]
    for seed in sorted(old_runs.keys() & new_runs.keys(), key=int):
        old = old_runs[seed]
        new = new_runs[seed]
        by_group = _figure_differences(row, old["exact"], new["exact"], then, now)
        if bits and (changed := _changed_scores(then, now, old["scores"], new["scores"])):
            by_group["scores"] = [changed]
        for group, sentences in by_group.items():
            more = f", and {len(sentences) - SHOWN} more" if len(sentences) > SHOWN else ""
            yield Difference(seed, group, f"seed {seed}: {'; '.join(sentences[:SHOWN])}{more}")


def _figure_differences(row: str, old: Figures, new: Figures, then: Evidence, now: Evidence) -> dict[str, list[str]]:
    """Return group -> sentences on the figures of one run that differ."""
    bits = same_bits(then, now)
    question = same_question(then, now)
    present = then["rows"].keys() & now["rows"].keys()
    by_group: dict[str, list[str]] = {}
    for name in sorted(old.keys() | new.keys()):
        group, _, rest = name.partition("/")
        # A task that the baseline lacks: there is nothing to compare.
        if group == "asked" and name not in old:
            continue
        if not _compared(group, bits, question, old):
            continue
        before = old.get(name)
        after = new.get(name)
        sentence = ""
        if group.startswith("same "):
            sentence = _relation(before or [], after or [], present, then["rows"][row]["role"])
        elif not _equal(before, after):
            sentence = f"{rest or 'it'} was {before!r}, is {after!r}"
        if sentence:
            by_group.setdefault(group, []).append(sentence)
    return by_group


def _compared(group: str, bits: bool, question: bool, figures: Figures) -> bool:
    """Return whether a group of figures must agree between two checks."""
    if group in ALWAYS:
        return True
    if group in BITS:
        return bits
    if group == "ledger":
        # Seconds pay for as many steps as the machine was fast.
        if figures.get("ledger/meter") == "seconds":
            return False
        sampled = any(name.startswith(tuple(f"ledger/{account} " for account in SAMPLED)) for name in figures)
        return question and (bits or not sampled)
    return question


def _relation(then: Sequence[str], now: Sequence[str], present: set[str], role: str) -> str:
    """Return what is wrong with the runs that this one equals, empty if nothing is.

    A check of some rows only has no others to be equal to.
    """
    # Rows that are not in both checks cannot be held against each other.
    rows = {name: name.rpartition(", seed ")[0] for name in (*then, *now)}
    gained = [name for name in now if name not in then and rows[name] in present]
    if gained:
        return f"the same as {', '.join(gained)} now, which it was not"
    lost = [name for name in then if name not in now and rows[name] in present]
    return f"no longer the same as {', '.join(lost)}" if lost and role != Role.RECIPE else ""


def _changed_scores(then: Evidence, now: Evidence, old: dict[str, ItemScores], new: dict[str, ItemScores]) -> str:
    """Return how many item scores differ between two runs, empty if none does."""
    changed = 0
    total = 0
    for name, scores in old.items():
        # An item that has no score now counts as changed.
        current = dict(zip(items_of(now, name), new.get(name, []), strict=False))
        total += len(scores)
        for item, score in zip(then["measures"][name]["items"], scores, strict=True):
            changed += current.get(item) != score
    return f"{changed:,} of {total:,} item scores differ" if changed else ""


def _equal(then: Any, now: Any) -> bool:
    """Return whether two figures are equal, numbers within `ROUNDING`."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (then, now))
    return math.isclose(then, now, rel_tol=ROUNDING) if numbers else then == now


def _digest(value: Any) -> str:
    """Return 16 hex digits that name a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
