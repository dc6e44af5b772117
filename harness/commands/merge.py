"""`lethe merge`: join a comparison's runs from several machines; what is not comparable is refused by field. No torch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import PlanError, raise_faults
from harness.store.files import read_record, replacing, write_record
from harness.store.question import differing_fields
from harness.store.runs import CHECKPOINT, MODELS, WEIGHTS, RunFolder, RunStore

LEFT = (WEIGHTS, MODELS, CHECKPOINT, "tensorboard")
"""Parts of a run's folder that stay where they are: reports need none of them."""
WHOLE = ("schema_version", "protocol")
SAME = ("methods", "training", "budget", "model", "data", "protocol", "threads", "precision")
"""Of a run's question: equal for a row's runs on all machines."""


def merge(folders: Sequence[Path], to: Path) -> list[str]:
    """Write the joint comparison, its runs and report; gives lines to print. Raises PlanError with all that does not fit."""
    from harness.report.write import write_report

    records = [_record(folder) for folder in folders]
    if len(folders) < 2:
        raise PlanError("merge joins two comparisons or more; one is named")
    if to.exists() and (to / "comparison.json").exists():
        raise PlanError(f"{to} holds a comparison: give --to a new folder")
    faults = [
        fault
        for folder, record in zip(folders[1:], records[1:], strict=True)
        for fault in _unlike(folders[0], records[0], folder, record)
    ]
    stores = [RunStore(folder.parent / "runs") for folder in folders]
    chosen, notes, clashes = _chosen(folders, records, stores)
    raise_faults(faults + clashes)
    for entry, store in chosen:
        _copy(store.run(entry["key"]), to.parent / "runs" / entry["key"])
    notes += _bases(folders, records, stores)
    record = records[0] | {"name": to.name, "rows": [entry for entry, _ in chosen], "trials": _trials(records, stores, to)}
    record["notes"] = list(dict.fromkeys([*(note for one in records for note in one.get("notes") or []), *notes]))
    write_record(to, record)
    report = write_report(to, RunStore(to.parent / "runs"))
    rows = len({entry["row"] for entry, _ in chosen})
    return [
        f"{len(chosen)} runs of {rows} rows from {len(folders)} comparisons",
        *notes,
        f"report: {report.folder / 'report.html'}",
    ]


def _record(folder: Path) -> dict[str, Any]:
    record = read_record(folder)
    if record is None:
        raise PlanError(f"{folder} holds no comparison.json; give the folders that `lethe compare` wrote, as A/<name>")
    if not (folder.parent / "runs").is_dir():
        raise PlanError(f"{folder.parent / 'runs'} does not exist: a comparison is merged from beside its run store")
    return record


def _unlike(one: Path, first: dict[str, Any], other: Path, second: dict[str, Any]) -> list[str]:
    """A fault for each field in which two comparisons ask another question, or another evaluation."""
    pairs = [(name, first.get(name), second.get(name)) for name in WHOLE]
    questions = (record.get("question") or {} for record in (first, second))
    pairs += [(found.name, found.then, found.now) for found in differing_fields(*questions)]
    pairs += [(f"evaluation '{kind}' (suites, prompts, limit)", *keys) for kind, keys in _evaluations(first, second).items()]
    return [
        f"{name} differs: {a!r} in {one}, {b!r} in {other}; what is compared must share it" for name, a, b in pairs if a != b
    ]


def _evaluations(*records: dict[str, Any]) -> dict[str, list[Any]]:
    """kind -> the evaluation's key in each record, where all have that kind."""
    keys = [record["rows"][0]["evals"] for record in records]
    return {kind: [one[kind] for one in keys] for kind in keys[0] if all(kind in one for one in keys)}


def _chosen(
    folders: Sequence[Path], records: list[dict[str, Any]], stores: list[RunStore]
) -> tuple[list[tuple[dict[str, Any], RunStore]], list[str], list[str]]:
    """The joint rows, each with the store that has it: the first that ended well; notes, and what cannot stand together."""
    found: dict[tuple[str, int], tuple[dict[str, Any], RunStore, Path]] = {}
    notes, clashes = [], []
    for folder, record, store in zip(folders, records, stores, strict=True):
        for entry in record["rows"]:
            place = (entry["row"], entry["seed"])
            if place not in found:
                found[place] = (entry, store, folder)
                continue
            held, where, at = found[place]
            differing = _differing(where.run(held["key"]), store.run(entry["key"])) if entry["role"] != "base" else []
            clashes += [f"{entry['row']} (seed {entry['seed']}): {text}; {at} and {folder}" for text in differing]
            if where.run(held["key"]).status != "done" and store.run(entry["key"]).status == "done":
                found[place] = (entry, store, folder)
            elif not differing and entry["role"] == "recipe":
                notes.append(f"{entry['row']} (seed {entry['seed']}) was run in {at} and in {folder}: the first is kept.")
    rows = {}
    for (row, _), (entry, store, folder) in found.items():
        first = rows.setdefault(row, (entry, store, folder))
        differing = _differing(first[1].run(first[0]["key"]), store.run(entry["key"])) if entry["role"] == "recipe" else []
        clashes += [
            f"{row}, seeds {first[0]['seed']} and {entry['seed']}: {text}; {first[2]} and {folder}" for text in differing
        ]
    return [(entry, store) for entry, store, _ in found.values()], notes, list(dict.fromkeys(clashes))


def _differing(one: RunFolder, other: RunFolder) -> list[str]:
    """In which fields of their questions two runs of a row differ, torch's version with them."""
    first, second = (run.read("run") for run in (one, other))
    if not first or not second:
        return []
    pairs = [(name, first["asked"].get(name), second["asked"].get(name)) for name in SAME]
    pairs.append(("torch", *(run["where"].get("packages", {}).get("torch") for run in (first, second))))
    return [f"{name} differs: {a!r} and {b!r}" for name, a, b in pairs if a != b]


def _bases(folders: Sequence[Path], records: list[dict[str, Any]], stores: list[RunStore]) -> list[str]:
    """A note where the machines score the same base otherwise: every row is paired with the first one's."""
    tables = []
    for record, store in zip(records, stores, strict=True):
        entry = next(entry for entry in record["rows"] if entry["role"] == "base")
        scores = store.run(entry["key"]).scores("final", entry["evals"]["final"])
        if scores is None:
            raise PlanError("a base is not scored: run `lethe compare` to its end on every machine first")
        tables.append(scores.set_index(["task", "metric", "item"])["score"])
    notes = []
    for folder, table in zip(folders[1:], tables[1:], strict=True):
        both = pd.concat([tables[0], table], axis=1, keys=["one", "other"])
        differing = int(((both["one"] != both["other"]) & ~both.isna().all(axis=1)).sum())
        if differing:
            notes.append(
                f"{folder} scores the base otherwise in {differing:,} of {len(both):,} scores:"
                f" rows are paired with {folders[0]}'s."
            )
    return notes


def _trials(records: list[dict[str, Any]], stores: list[RunStore], to: Path) -> list[dict[str, Any]]:
    """The trials of all, each once, their runs copied."""
    found = {}
    for record, store in zip(records, stores, strict=True):
        for trial in record.get("trials") or []:
            if trial["key"] not in found:
                found[trial["key"]] = trial
                _copy(store.run(trial["key"]), to.parent / "runs" / trial["key"])
    return list(found.values())


def _copy(run: RunFolder, target: Path) -> None:
    if run.path.is_dir() and not target.exists():
        with replacing(target) as fresh:
            shutil.copytree(run.path, fresh, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT))
