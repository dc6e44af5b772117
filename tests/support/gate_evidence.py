"""Evidence of a check as a measurement would leave it: two recipes on four tasks, and what may be missing of it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from harness.gate.evidence import LAYOUT
from harness.gate.exact import add_relations
from harness.store.schema import PROTOCOL

ITEMS = 200
MEASURES = {  # name: (family, group, channel, metric, primary)
    "facts/exact_match": ("facts", "general", "generation", "exact_match", True),
    "grammar/acc": ("grammar", "general", "choice", "acc", True),
    "finance/exact_match": ("finance", "domain", "generation", "exact_match", True),
    "general_held_out/kl_to_base": ("general_held_out", "general", "drift", "kl_to_base", False),
    "facts/rep3_word": ("facts", "general", "degeneration", "rep3_word", False),
}


def measure_of(name: str) -> dict:
    family, group, channel, metric, primary = MEASURES[name]
    ids = [f"{family}-{i:03d}" for i in range(ITEMS)]
    fixed = {"task": name.partition("/")[0], "metric": metric, "family": family, "group": group, "channel": channel}
    return fixed | {"seen": None, "primary": primary, "higher_better": primary, "chance": 0.0, "items": ids, "clusters": ids}


def evidence(seeds: int = 1, processor: str = "one", **lost: float) -> dict:
    """A base right on nine of ten, and `sft` and `ewc` after it; `lost`: share of right general answers that a row loses."""
    rows = {}
    for row in ("base", "zero budget", "sft", "ewc"):
        role = {"base": "base", "zero budget": "control"}.get(row, "recipe")
        own = range(seeds if role == "recipe" else 1)
        runs = {
            str(seed): {
                "status": "done",
                "reason": None,
                "exact": figures(row, seed, lost.get(row, 0.0)),
                "scores": scores_of(row, seed, lost.get(row, 0.0)),
            }
            for seed in own
        }
        rows[row] = {"role": role, "track": "free", "seeds": runs}
    add_relations(rows)
    machine = {"processor": processor, "cpu_capability": "AVX2"}
    head = {
        "layout": LAYOUT,
        "schema_version": 1,
        "protocol": PROTOCOL,
        "question": {"model": "ab", "data": "cd", "threads": 1},
        "device": "cpu",
        "where": {"git": {"commit": "12"}, "machine": machine, "packages": {"torch": "2"}},
    }
    return head | {"measures": {name: measure_of(name) for name in MEASURES}, "rows": rows}


def elsewhere(**lost: float) -> dict:
    """The same evidence, measured on another machine: noise floors apply, and bits may differ."""
    return evidence(processor="another", **lost)


def figures(row: str, seed: int, lost: float) -> dict[str, Any]:
    """Exact figures as `figures_of` leaves them."""
    trained = row in ("sft", "ewc")
    found = {"seed": seed, "model": "ab", "weights": f"{row} {seed} {lost}" if trained else "ab"}
    found |= {f"asked/{name.partition('/')[0]}": "12ab" for name in MEASURES}
    if not trained:
        return found
    found |= {"training/learning_rate": 1e-3, "examples/data": "34cd", "ledger/meter": "flops", "ledger/steps": 50}
    return found | {"ledger/train flops": 1.5e12, "ledger/train tokens": 9000, "ledger/domain tokens": 9000}


def scores_of(row: str, seed: int, lost: float) -> dict:
    rng = np.random.default_rng([*(row if row in ("sft", "ewc") else "base").encode(), seed])
    found = {}
    for name, (_, group, channel, _, _) in MEASURES.items():
        right = (np.arange(ITEMS) % 10 > 0).astype(float)
        if channel == "drift":
            right = rng.uniform(0.01, 0.03, ITEMS) + lost / 2 if row in ("sft", "ewc") else np.zeros(ITEMS)
        elif channel == "degeneration":
            right = np.zeros(ITEMS)
        elif group == "domain":
            right = rng.random(ITEMS) < (0.8 if row in ("sft", "ewc") else 0.05)
        elif row in ("sft", "ewc"):
            right = right * (rng.random(ITEMS) >= 0.1) * (np.arange(ITEMS) % 100 >= 100 * lost)
        found[name] = [round(float(score), 4) for score in right]
    return found


def drop(found: dict, what: str) -> dict:
    """The evidence less a row, seed, measure or item of `ewc`; else with a run of it that ended so."""
    found, seeds = copy.deepcopy(found), found["rows"]["ewc"]["seeds"]
    run = found["rows"]["ewc"]["seeds"]["0"]
    if what == "row":
        del found["rows"]["ewc"]
    elif what == "seed":
        found["rows"]["ewc"]["seeds"] = {"1": seeds["0"]}
    elif what == "measure":
        del run["scores"]["general_held_out/kl_to_base"]
    elif what in ("item", "nan"):
        run["scores"]["finance/exact_match"][7] = None if what == "item" else float("nan")
    else:
        run |= {"status": what, "reason": "because", "scores": {}}
    return found
