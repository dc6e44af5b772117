"""What results cost to read as the store grows: `python -m tests.bench.store [runs ...]`; else 100, 1,000 and 10,000 runs.

Of each size a comparison is made up on disk (not timed), of as many recipes as seeds; a run has scores of 1,000 items, their
texts, a log and a ledger. Then, in a process of its own: `index` asks of every run whether it has ended, `read` gathers the
comparison, `compare` makes its statistics (10,000 bootstrap draws), `report` writes tables, plots and page. In seconds; memory
is the process's peak.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

SIZES, TASKS, ITEMS, STEPS = (100, 1_000, 10_000), 10, 100, 60


def items() -> pd.DataFrame:
    """1,000 items: two tasks of the domain, eight general ones, half of them seen."""
    from harness.store.schema import ITEM_COLUMNS

    number = np.arange(TASKS * ITEMS)
    task = number // ITEMS
    name = pd.Series(task).map(lambda t: f"task_{t}")
    texts = {column: [f"{column} of item {i}: " + "words " * 20 for i in number] for column in ("prompt", "output", "target")}
    table = pd.DataFrame({"fraction": 1.0, "alpha": 1.0, "task": name, "family": name, "channel": "generation", **texts})
    table = table.assign(group=np.where(task < 2, "domain", "general"), seen=pd.array(task % 2 == 0, "boolean"))
    table = table.assign(metric="exact_match", primary=True, higher_better=True, chance=0.0, score=0.0)
    table = table.assign(item=[f"item-{i:016x}" for i in number], cluster=[f"cluster-{i // 2}" for i in number])
    return table.astype(dict(ITEM_COLUMNS))[list(ITEM_COLUMNS)]


def records(row: str, seed: int) -> dict[str, dict]:
    """run.json, ledger.json and status.json of a run that ended well."""
    accounts = {"train": {"flops": 1e12, "seconds": 9.0, "tokens": 6000, "calls": STEPS}}
    ledger = {"meter": "flops", "allowed": 1e12, "spent": 1e12, "overshoot": 0.0, "flops": 1e12, "seconds": 9.0, "steps": STEPS}
    happened = {"wall_seconds": 9.0, "steps": STEPS, "epochs": 3.0, "stopped_by": "budget", "models": [], "notes": []}
    return {
        "run": {"schema_version": 1, "asked": {"recipe": row, "seed": seed}, "happened": happened},
        "ledger": ledger | {"accounts": accounts, "tokens": {"domain": 6000}},
        "status": {"status": "done", "reason": None, "traceback": None},
    }


def log() -> str:
    """A run's log."""
    zones = [{"low": low, "high": low + 2.0, "tokens": 0.25, "gradient": 0.25} for low in (0.0, 2.0, 4.0, 6.0)]
    steps = [
        {"step": s + 1, "spent": (s + 1) / STEPS, "loss": 2 / (s + 1), "tokens": 100, "zones": zones} for s in range(STEPS)
    ]
    return "".join(json.dumps(step) + "\n" for step in steps)


def make(root: Path, runs: int) -> Path:
    """A store of so many runs, and the comparison's folder."""
    from harness.store.files import write_json
    from harness.store.schema import key_of

    rng, table, steps = np.random.default_rng(0), pa.Table.from_pandas(items(), preserve_index=False), log()
    place, luck = table.column_names.index("score"), rng.random(len(table))
    domain, seeds, rows = np.arange(len(table)) < 2 * ITEMS, round(runs**0.5), []
    for number in range(runs):
        role, row, seed = ("recipe", f"recipe{number // seeds}", number % seeds) if number else ("base", "base", 0)
        rows.append({"row": row, "recipe": row, "role": role, "track": "free", "seed": seed, "key": key_of(number)})
        rows[-1]["evals"] = {"final": "0" * 16}
        folder = root / "runs" / key_of(number)
        (folder / "evals").mkdir(parents=True)
        moved = (np.where(domain, 0.3, -0.05) + rng.normal(0, 0.02)) * (number > 0)
        right = pa.array((luck < 0.5 + moved).astype(float))
        pq.write_table(
            table.set_column(place, "score", right), folder / "evals" / f"final-{'0' * 16}.parquet", compression="zstd"
        )
        for name, record in records(row, seed).items():
            (folder / f"{name}.json").write_text(json.dumps(record))
        (folder / "log.jsonl").write_text(steps)
    names = ("protocol", "name", "created", "command")
    record = dict.fromkeys(names, "1") | {"schema_version": 1, "plan": {"tune": 0}, "suites": [], "notes": [], "rows": rows}
    write_json(root / "bench" / "comparison.json", record | {"model": {"name": "none"}, "data": {"name": "none", "notes": []}})
    return root / "bench"


def measure(folder: Path) -> dict[str, float]:
    """Seconds of each part, and the peak memory of this process in MiB."""
    import resource
    from functools import wraps

    from harness.report import write
    from harness.store.runs import RunStore

    store, seconds = RunStore(folder.parent / "runs"), {}

    def timed(name: str, function):
        @wraps(function)
        def call(*given):
            begin = time.perf_counter()
            try:
                return function(*given)
            finally:
                seconds[name] = time.perf_counter() - begin

        return call

    write.read_comparison = timed("read", write.read_comparison)  # type: ignore[attr-defined]
    write.summarise = timed("compare", write.summarise)
    found = store.keys()
    ended = timed("index", lambda: [store.run(key).status == "done" for key in found])()
    assert all(ended)
    timed("report", write.write_report)(folder, store)
    seconds["report"] -= seconds["read"] + seconds["compare"]
    return seconds | {"all": sum(seconds.values()), "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
        return
    columns = ("index", "read", "compare", "report", "all", "MiB")
    print("runs".rjust(8), *(name.rjust(10) for name in columns))
    for runs in map(int, sys.argv[1:] or SIZES):
        with tempfile.TemporaryDirectory() as root:
            folder = make(Path(root), runs)
            command = [sys.executable, "-m", "tests.bench.store", "--measure", str(folder)]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        print(f"{runs:8,}", *(f"{found[name]:10.1f}" for name in columns), flush=True)


if __name__ == "__main__":
    main()
