"""A fake but realistic comparison on disk: base, control, six recipes that ended, one that failed, hostile outputs."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.store.files import is_local, read_json, write_json
from harness.store.runs import RunStore
from harness.store.schema import ITEM_COLUMNS, key_of

HOSTILE = [
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">",
    "</script></textarea></style><svg onload=\"document.title='owned'\">",
    "\u202eright to left override\u202c and \u05e9\u05dc\u05d5\u05dd \u2066isolate line\u2028separator <!-- comment",
    "bell \x07 escape \x1b[31m null \x00 delete \x7f c1 \x9b zero\u200bwidth",
    "x" * 100_000,
]
TASKS = [  # task, family, group, seen, channel, metric, chance, items, base accuracy, clusters of
    ("finance_answers", "finance", "domain", None, "generation", "exact_match", 0.0, 300, 0.05, 1),
    ("finance_choice", "finance_intents", "domain", None, "choice", "acc", 0.25, 200, 0.40, 1),
    ("facts", "facts", "general", True, "generation", "exact_match", 0.0, 200, 0.80, 2),
    ("facts_choice", "facts", "general", True, "choice", "acc", 0.25, 200, 0.88, 2),
    ("arithmetic", "arithmetic", "general", True, "generation", "exact_match", 0.0, 240, 0.70, 1),
    ("grammar_pairs", "grammar", "general", False, "likelihood", "acc", 0.5, 240, 0.90, 4),
    ("chat", "chat", "general", False, "generation", "exact_match", 0.0, 200, 0.75, 1),
    ("trivia_mc", "trivia", "general", False, "choice", "acc", 0.25, 160, 0.26, 1),
]
ROWS = {  # row: (role, track, gained share of the wrong domain items, forgotten share by channel)
    "base": ("base", "free", 0.0, 0.0),
    "zero budget": ("control", "free", 0.0, 0.0),
    "sft": ("recipe", "free", 0.48, 0.42),
    "low_lr": ("recipe", "free", 0.20, 0.12),
    "lora": ("recipe", "free", 0.43, 0.14),
    "lora+nlirg": ("recipe", "free", 0.40, 0.11),
    "distill": ("recipe", "free", 0.42, 0.09),
    "mix": ("recipe", "general", 0.45, 0.05),
    "mix+lora": ("recipe", "general", 0.42, 0.02),
    "replay": ("recipe", "general", 0.44, 0.06),
    "ewc": ("recipe", "general", 0.0, 0.0),
}
FAILED = {"ewc": "Fisher pass ran out of memory: 14.2 GiB asked, 8.0 GiB there; lower `ewc(batch=...)`."}
SETTINGS = {"lora": {"r": 8, "alpha": 16.0}, "nlirg": {"x0": 1.45, "scale": "nats"}}
PAPERS = {
    "lora": {"source": "Hu et al. 2021, eq. 3 & 50 % of it", "bibtex": ["@article{hu2021lora,\n  title = {LoRA}\n}"]},
    "sft": {"source": "plain fine-tuning", "bibtex": []},
}
HARDER = {"generation": 1.3, "choice": 0.8, "likelihood": 0.4}


def _items(task: tuple, rng: np.random.Generator) -> pd.DataFrame:
    name, family, group, seen, channel, metric, chance, n, accuracy, size = task
    numbers = np.arange(n)
    return pd.DataFrame(
        {
            "fraction": 1.0, "alpha": 1.0, "task": name, "family": family, "group": group, "seen": seen,
            "channel": channel, "metric": metric, "primary": True, "higher_better": True,
            "item": [f"{name}-{i}" for i in numbers],
            "cluster": [f"{family}-{i // size}" for i in numbers], "score": np.nan, "chance": chance,
            "prompt": [f"{family} question {i}: what is the value of {i} × 3?" for i in numbers],
            "output": None, "target": [str(3 * i) for i in numbers],
            "_base": rng.random(n) < accuracy, "_luck": rng.random(n),
        }
    )  # fmt: skip


def _score(items: pd.DataFrame, gained: float, lost: float, rng: np.random.Generator) -> pd.DataFrame:
    noise = np.where(rng.random(len(items)) < 0.3, rng.random(len(items)), items["_luck"])
    domain = items["group"] == "domain"
    rate = lost * items["channel"].map(HARDER) * (items["family"] != "trivia")
    right = np.where(domain, items["_base"] | (noise < gained), items["_base"] & (noise >= rate))
    right = items["_base"] if gained == lost == 0 else right
    answer = np.where(right, items["target"], "I am sorry, the quarterly report does not say.")
    scored = items.assign(score=np.asarray(right, float), output=answer)
    return pd.concat([scored, *_quality(scored, gained, lost, rng)], ignore_index=True)[list(ITEM_COLUMNS)]


def _quality(scored: pd.DataFrame, gained: float, lost: float, rng: np.random.Generator) -> list[pd.DataFrame]:
    frames = []
    for metric, channel, level in (
        ("rep3_word", "degeneration", 0.02 + lost / 4),
        ("no_stop", "degeneration", 0.01 + lost / 6),
        ("kl_to_base", "drift", lost * 2),
    ):
        part = scored[scored["task"].isin(["finance_answers", "chat"])].copy()
        value = np.clip(level + (rng.normal(0, level / 3 + 1e-9, len(part)) if gained else 0.0), 0, None)
        part = part.assign(metric=metric, channel=channel, primary=False, higher_better=False, chance=0.0, score=value)
        frames.append(part.assign(prompt=None, output=None, target=None))
    return frames


def _plant_hostile(scores: pd.DataFrame) -> pd.DataFrame:
    scores["output"] = scores["output"].astype(object)
    places = scores.index[scores["primary"] & (scores["task"] == "chat") & (scores["score"] == 0)][: len(HOSTILE)]
    scores.loc[places, "output"] = HOSTILE[: len(places)]
    return scores


def _log(row: str, seed: int) -> list[dict]:
    rng, steps = np.random.default_rng(key_seed(row, seed)), []
    edges = [0.0, 1.2, 6.2, 15.0, None]
    for step in range(60):
        loss = 2.2 * np.exp(-step / 20) + 0.4 + rng.normal(0, 0.05)
        low = min(0.85, 0.45 + step / 150)
        share = [low, 0.97 - low, 0.03, 0.0]
        gradient = [low / 3, 0.92 - low / 3, 0.08, 0.0]
        zones = [{"low": edges[i], "high": edges[i + 1], "tokens": share[i], "gradient": gradient[i]} for i in range(4)]
        steps.append(
            {
                "step": step, "spent": (step + 1) / 60, "loss": loss, "task_loss": loss, "penalty": 0.0, "rate": 1.0,
                "gradient_norm": 1.0, "tokens": 2048, "supervised": 600, "seconds": 0.7, "zones": zones,
            }
        )  # fmt: skip
        if "nlirg" in row:
            steps[-1]["weights"] = {"edges": [1.0, 6.0], "tokens": [300, 300, 0], "mean": [0.2, 1.0, None]}
    return steps


def key_seed(*parts: object) -> int:
    return int(key_of(list(map(str, parts)))[:8], 16)


def build(
    root: Path,
    seeds: tuple[int, ...] = (0,),
    hostile: bool = False,
    curves: bool = True,
    rows: dict | None = None,
    items: float = 1.0,
) -> tuple[Path, RunStore]:
    """Put a comparison under `root`; returns its folder and the store. Of equal ones all but the first are copies."""
    chosen = tuple((rows or ROWS).items())
    if is_local(root):
        shutil.copytree(
            _made(seeds, hostile, curves, chosen, items).name, root, copy_function=shutil.copyfile, dirs_exist_ok=True
        )
    else:
        _write(root, seeds, hostile, curves, chosen, items)
    return root / "finance", RunStore(root / "runs")


@cache
def _made(*asked: Any) -> tempfile.TemporaryDirectory[str]:
    """A comparison as it is asked for, which nobody but `build` reads; it is removed when the process ends."""
    folder = tempfile.TemporaryDirectory()
    _write(Path(folder.name), *asked)
    return folder


def _write(root: Path, seeds: tuple[int, ...], hostile: bool, curves: bool, rows: tuple, items: float) -> None:
    store, entries = RunStore(root / "runs"), []
    rng = np.random.default_rng(7)
    table = pd.concat([_items((*t[:7], int(t[7] * items), *t[8:]), rng) for t in TASKS], ignore_index=True)
    for row, (role, track, gained, lost) in rows:
        for seed in seeds if role == "recipe" else seeds[:1]:
            key = key_of([row, seed])
            entries.append({"row": row, "recipe": row, "role": role, "track": track, "seed": seed, "key": key})
            entries[-1]["evals"] = {} if row in FAILED else dict.fromkeys(("final", "curve", "path"), "0" * 16)
            if not curves and row not in FAILED:
                entries[-1]["evals"] = {"final": "0" * 16}
            _write_run(store, entries[-1], table, gained, lost, hostile and row == "sft")
    write_json(root / "finance" / "comparison.json", _record(entries, table))


def add_tuning(folder: Path, store: RunStore, trials: dict[str, dict[str, tuple[float, float]]], points: bool = True) -> None:
    """Add a tuning to a comparison whose rows have run: row -> recipe of each trial -> gained and lost shares.

    The first trial of a row is the selected one; `points`: the others are scored on test items under the rows' seeds too.
    """
    record = read_json(folder / "comparison.json")
    dev = pd.concat([_items((f"dev_{t[0]}", *t[1:7], 60, *t[8:]), np.random.default_rng(3)) for t in TASKS], ignore_index=True)
    test = pd.concat([_items(t, np.random.default_rng(7)) for t in TASKS], ignore_index=True)
    base = next(entry for entry in record["rows"] if entry["role"] == "base")
    base["evals"]["dev"] = "0" * 16
    store.run(base["key"]).write_scores("dev", "0" * 16, _score(dev, 0.0, 0.0, np.random.default_rng(0)))
    record["trials"] = []
    for row, settings in trials.items():
        seeds = [entry["seed"] for entry in record["rows"] if entry["row"] == row]
        track = ROWS[row][1]
        for number, (recipe, shares) in enumerate(settings.items()):
            trial = {"row": row, "trial": f"{row} trial {number}", "recipe": recipe, "track": track, "seed": 1_000_000}
            trial |= {
                "evals": {"dev": "0" * 16},
                "selected": number == 0,
                "plain": row == "sft",
                "key": key_of([recipe, "dev"]),
            }
            _write_tried(store, trial, "dev", dev, shares)
            record["trials"].append(trial)
            for seed in seeds if points and number else ():
                point = {"row": row, "trial": f"{row}: {recipe}", "recipe": recipe, "track": track, "seed": seed}
                point |= {"evals": {"final": "0" * 16}, "selected": False, "key": key_of([recipe, seed])}
                _write_tried(store, point, "final", test, shares)
                record["trials"].append(point)
    write_json(folder / "comparison.json", record)


def _write_tried(store: RunStore, entry: dict, kind: str, items: pd.DataFrame, shares: tuple[float, float]) -> None:
    run = store.run(entry["key"])
    run.write_scores(kind, "0" * 16, _score(items, *shares, np.random.default_rng(key_seed(entry["recipe"], entry["seed"]))))
    run.write("ledger", _ledger({"track": entry["track"], "recipe": entry["recipe"], "role": "recipe"}))
    run.write("status", {"status": "done", "reason": None, "traceback": None})


def _write_run(store: RunStore, entry: dict, table: pd.DataFrame, gained: float, lost: float, hostile: bool) -> None:
    run, row, seed = store.run(entry["key"]), entry["row"], entry["seed"]
    if row in FAILED:
        run.write("status", {"status": "out_of_memory", "reason": FAILED[row], "traceback": "Traceback ...\nMemoryError"})
        return
    wobble = np.random.default_rng(key_seed("wobble", row, seed)).normal(1, 0.05)
    draw = key_seed("draw", row, seed)

    def scores(items: pd.DataFrame, share: float) -> pd.DataFrame:
        return _score(items, gained * share * wobble, lost * share**1.5 * wobble, np.random.default_rng(draw))

    final = scores(table, 1.0)
    run.write_scores("final", "0" * 16, _plant_hostile(final) if hostile else final)
    few = table[table["item"].str.rsplit("-").str[-1].astype(int) < 60]
    if entry["role"] == "recipe" and "curve" in entry["evals"]:
        fractions = np.linspace(0, 1, 7)[1:]
        curve = [scores(few, np.sqrt(f)).assign(fraction=f) for f in fractions]
        run.write_scores("curve", "0" * 16, pd.concat(curve))
        path = [scores(few, a).assign(alpha=a) for a in (0, 0.25, 0.5, 0.75, 1.0)]
        run.write_scores("path", "0" * 16, pd.concat(path))
        lines = "\n".join(json.dumps(line) for line in _log(row, seed))
        (run.path / "log.jsonl").write_text(lines + "\n")
    run.write("run", _run_record(entry))
    run.write("ledger", _ledger(entry))
    run.write("status", {"status": "done", "reason": None, "traceback": None})


def _run_record(entry: dict) -> dict:
    methods = [{"name": name, "settings": SETTINGS.get(name, {})} for name in entry["recipe"].split("+")]
    training = {"batch_size": 32, "warmup": 0.05, "learning_rate": 1e-3 if "lora" in entry["recipe"] else 1e-4}
    return {
        "schema_version": 1,
        "key": entry["key"],
        "asked": {
            "recipe": entry["recipe"], "methods": methods, "track": entry["track"], "role": entry["role"],
            "seed": entry["seed"], "training": training, "learning_rate": training["learning_rate"],
            "budget": {"text": "3epochs", "meter": "flops", "amount": 2e14},
            "model": {"name": "phantom", "hash": "ab" * 8, "parameters": 3_500_000}, "threads": 2, "precision": "bf16",
        },
        "happened": {
            "started": "2025-01-01T10:00:00", "ended": "2025-01-01T10:00:48", "wall_seconds": 48.2, "steps": 420,
            "epochs": 2.98, "stopped_by": "budget", "peak_memory_bytes": 812_000_000, "evaluation_seconds": 9.1,
            "stability": {"loss_variance": 0.0123, "gradient_spikes": 2}, "notes": [],
        },
        "where": {"git": {"commit": "3b6c735", "dirty": False}, "packages": {"torch": "2.13.0"},
                  "machine": {"cpu": "example", "cores": 2}, "threads": 2},
    }  # fmt: skip


def _ledger(entry: dict) -> dict:
    accounts = {"train": {"flops": 2.0e14, "seconds": 41.0, "tokens": 860_000, "calls": 420}}
    tokens = {"domain": 860_000}
    if entry["track"] == "general":
        tokens = {"domain": 600_000, "general": 260_000}
    if entry["recipe"] == "distill":
        accounts = {"train": {"flops": 1.5e14, "seconds": 32.0, "tokens": 650_000, "calls": 315},
                    "teacher": {"flops": 0.5e14, "seconds": 9.0, "tokens": 650_000, "calls": 315}}  # fmt: skip
    if entry["role"] != "recipe":
        accounts, tokens = {}, {}
    flops, seconds = (sum(a[name] for a in accounts.values()) for name in ("flops", "seconds"))
    return {
        "meter": "flops", "allowed": 2e14, "spent": flops, "overshoot": -0.001, "flops": flops, "seconds": seconds,
        "steps": 420 if accounts else 0, "accounts": accounts, "tokens": tokens,
    }  # fmt: skip


def _record(entries: list[dict], table: pd.DataFrame) -> dict:
    suites = [{"name": "general", "tasks": [t[0] for t in TASKS if t[2] == "general"], "items": len(table)}]
    return {
        "schema_version": 1, "protocol": "1", "name": "finance", "created": "2025-01-01T10:12:00",
        "command": "lethe compare --data finance.json",
        "plan": {"data": "finance.json", "budget": "3epochs", "meter": "flops", "tune": 0, "seeds": 1},
        "model": {"name": "phantom", "hash": "ab" * 8, "parameters": 3_500_000},
        "data": {"name": "finance", "path": "finance.json", "train": 4000, "dev": 400, "test": 500, "notes": []},
        "suites": suites, "notes": ["3 records were cut to 256 tokens."], "rows": entries, "papers": PAPERS,
    }  # fmt: skip
