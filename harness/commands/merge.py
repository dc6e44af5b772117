"""`lethe merge`: join a comparison's runs from several machines; what is not comparable is refused by field. No torch."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import PlanError, raise_faults
from harness.store.files import read_record, replacing, write_record
from harness.store.question import Question, question_in
from harness.store.results import Results
from harness.store.runs import CHECKPOINT, MODELS, WEIGHTS, RunFolder, RunStore
from harness.store.schema import RowRecord, TrialRecord
from harness.vocabulary import EvalKind, Role, Status

LEFT = (WEIGHTS, MODELS, CHECKPOINT, "tensorboard")
"""Parts of a run's folder that stay where they are: reports need none of them."""
WHOLE = ("schema_version", "protocol")
"""Fields of a comparison's record that must be equal, beside its question."""
SAME = ("methods", "training", "budget", "model", "data", "protocol", "threads", "precision")
"""Fields of a run's record that must be equal for a row's runs on all machines, beside torch's version."""


@dataclass(frozen=True)
class Source:
    """One of the comparisons that are joined."""

    folder: Path
    record: dict[str, Any]

    @property
    def store(self) -> RunStore:
        return RunStore(self.folder.parent / "runs")


@dataclass(frozen=True)
class Entry:
    """A row of one comparison, under one seed."""

    entry: RowRecord
    source: Source

    @property
    def row(self) -> str:
        return self.entry["row"]

    @property
    def seed(self) -> int:
        return self.entry["seed"]

    @property
    def role(self) -> Role:
        return Role(self.entry["role"])

    @property
    def run(self) -> RunFolder:
        return self.source.store.run(self.entry["key"])

    @property
    def question(self) -> Question | None:
        """What the run must share with others of its row; None where it did not run."""
        # A run that never ran has no question; whatever the others asked, it does not contradict
        # them.
        record = self.run.read("run")
        if not record:
            return None
        described = record.get("asked") or {}
        fields = {name: described.get(name) for name in SAME}
        where = record.get("where") or {}
        return Question(fields | {"torch": (where.get("packages") or {}).get("torch")})


def merge(folders: Sequence[Path], to: Path) -> list[str]:
    """Write the joint comparison, its runs and report, and return lines to print.

    Raises PlanError with everything that does not fit together.
    """
    from harness.report.write import write_report

    sources = [_source(folder) for folder in folders]
    with Results(to.parent).recording():
        chosen, notes = _joinable(sources, to)
        notes += _bases(sources)

        # Runs first, then the record that names them: an interrupted merge leaves no record.
        for entry in chosen:
            _copy(entry.run, to.parent / "runs" / entry.run.key)
        earlier_notes: list[str] = []
        for source in sources:
            earlier_notes += source.record.get("notes") or []
        record = sources[0].record | {
            "name": to.name,
            "rows": [entry.entry for entry in chosen],
            "trials": _trials(sources, to),
            "notes": list(dict.fromkeys([*earlier_notes, *notes])),
        }
        write_record(to, record)
        report = write_report(to, RunStore(to.parent / "runs"))

    # The report is written anew over all runs, so that its intervals are over all seeds.
    rows = len({entry.row for entry in chosen})
    return [
        f"{len(chosen)} runs of {rows} rows from {len(sources)} comparisons",
        *notes,
        f"report: {report.folder / 'report.html'}",
    ]


def _joinable(sources: Sequence[Source], to: Path) -> tuple[list[Entry], list[str]]:
    """Return the joint rows and notes on them. Raises PlanError with everything that does not fit together."""
    if len(sources) < 2:
        raise PlanError("merge joins two comparisons or more; one is named")

    # A merged comparison is written once: its runs are copied beside it.
    if to.exists() and (to / "comparison.json").exists():
        raise PlanError(f"{to} holds a comparison: give --to a new folder")
    faults = []
    for source in sources[1:]:
        faults += _unlike(sources[0], source)
    chosen, notes, clashes = _chosen(sources)
    raise_faults(faults + clashes + _incomparable(chosen) + _links(chosen))
    return chosen, notes


def _links(entries: Sequence[Entry]) -> list[str]:
    """Return a fault for each link in a run's folder: merging would copy the link's target, which may be any file."""
    faults = []
    for entry in entries:
        folder = entry.run.path
        for path in [folder, *sorted(folder.rglob("*"))]:
            if path.is_symlink():
                faults.append(f"{path} is a link, and links are not followed: put the file itself there, or remove it")
    return faults


def _source(folder: Path) -> Source:
    """Return the comparison in a folder. Raises PlanError where there is none, or it has no run store or rows."""
    record = read_record(folder)
    if record is None:
        raise PlanError(f"{folder} holds no comparison.json; give the folders that `lethe compare` wrote, as A/<name>")
    if not (folder.parent / "runs").is_dir():
        raise PlanError(f"{folder.parent / 'runs'} does not exist: a comparison is merged from beside its run store")
    if not record.get("rows"):
        raise PlanError(f"{folder} lists no rows: there is nothing to merge; run `lethe compare` to its end there")
    return Source(folder, record)


def _unlike(first: Source, other: Source) -> list[str]:
    """Return a fault for each field in which two comparisons ask another question, or another evaluation."""
    differences = question_in(first.record).differences(question_in(other.record))
    differences += Question(_whole(first.record)).differences(Question(_whole(other.record)))
    differences += Question(_evaluations(first, other)).differences(Question(_evaluations(other, first)))
    faults = []
    for difference in differences:
        values = f"{difference.then!r} in {first.folder}, {difference.now!r} in {other.folder}"
        faults.append(f"{difference.name} differs: {values}; what is compared must share it")
    return faults


def _whole(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: record.get(name) for name in WHOLE}


def _evaluations(source: Source, other: Source) -> dict[str, str]:
    """Return the keys of a comparison's evaluations, of the kinds that another one has too."""
    # Of the kinds that both have: one machine may have tuned, which needs an evaluation more.
    keys = source.record["rows"][0].get("evals") or {}
    shared = other.record["rows"][0].get("evals") or {}
    return {f"evaluation '{kind}' (suites, prompts, limit)": key for kind, key in keys.items() if kind in shared}


def _chosen(sources: Sequence[Source]) -> tuple[list[Entry], list[str], list[str]]:
    """Return (the joint rows, notes, clashes of the same row and seed). Of several the first that ended well is taken."""
    chosen: dict[tuple[str, int], Entry] = {}
    notes = []
    clashes = []
    for source in sources:
        for line in source.record["rows"]:
            entry = Entry(line, source)
            earlier = chosen.setdefault((entry.row, entry.seed), entry)
            if earlier is entry:
                continue

            # Every machine has a base of its own; how its scores differ is a note.
            differing = [] if entry.role == Role.BASE else _differing(earlier, entry)
            for text in differing:
                folders = f"{earlier.source.folder} and {source.folder}"
                clashes.append(f"{entry.row} (seed {entry.seed}): {text}; {folders}")
            if earlier.run.status != Status.DONE and entry.run.status == Status.DONE:
                chosen[entry.row, entry.seed] = entry
            elif not differing and entry.role == Role.RECIPE:
                places = f"{earlier.source.folder} and in {source.folder}"
                notes.append(f"{entry.row} (seed {entry.seed}) was run in {places}: the first is kept.")
    return list(chosen.values()), notes, clashes


def _incomparable(entries: Sequence[Entry]) -> list[str]:
    """Return a fault for each field in which seeds of one recipe differ: their mean would mix two questions."""
    # The first of each row is what the others are held against.
    firsts: dict[str, Entry] = {}
    faults = []
    for entry in entries:
        first = firsts.setdefault(entry.row, entry)
        if entry.role != Role.RECIPE or first is entry:
            continue
        for text in _differing(first, entry):
            folders = f"{first.source.folder} and {entry.source.folder}"
            faults.append(f"{entry.row}, seeds {first.seed} and {entry.seed}: {text}; {folders}")
    return faults


def _differing(first: Entry, other: Entry) -> list[str]:
    """Return in which fields two runs of a row differ; in none where one of them did not run."""
    then = first.question
    now = other.question
    # A run that failed early has no record; it joins as a failure of its row.
    if then is None or now is None:
        return []
    return [f"{field.name} differs: {field.then!r} and {field.now!r}" for field in then.differences(now)]


def _bases(sources: Sequence[Source]) -> list[str]:
    """Return a note where machines score the same base differently: every row is paired with the first one's."""
    tables = [_base_scores(source) for source in sources]
    notes = []
    for source, table in zip(sources[1:], tables[1:], strict=True):
        both = pd.concat([tables[0], table], axis=1, keys=["one", "other"])
        differing = int(((both["one"] != both["other"]) & ~both.isna().all(axis=1)).sum())
        if differing:
            notes.append(
                f"{source.folder} scores the base otherwise in {differing:,} of {len(both):,} scores:"
                f" rows are paired with {sources[0].folder}'s."
            )
    return notes


def _base_scores(source: Source) -> pd.Series:
    """Return the final scores of a comparison's base by task, metric and item. Raises PlanError where it has none."""
    for line in source.record["rows"]:
        entry = Entry(line, source)
        key = (line.get("evals") or {}).get(EvalKind.FINAL)
        if entry.role == Role.BASE and key is not None:
            scores = entry.run.scores(EvalKind.FINAL, key)
            if scores is not None:
                return scores.set_index(["task", "metric", "item"])["score"]
    raise PlanError(f"the base is not scored in {source.folder}: run `lethe compare` to its end on every machine first")


def _trials(sources: Sequence[Source], to: Path) -> list[TrialRecord]:
    """Return the trials of all comparisons, each once, and copy their runs."""
    trials: dict[str, TrialRecord] = {}
    for source in sources:
        for trial in source.record.get("trials") or []:
            if trial["key"] not in trials:
                trials[trial["key"]] = trial
                _copy(source.store.run(trial["key"]), to.parent / "runs" / trial["key"])
    return list(trials.values())


def _copy(run: RunFolder, target: Path) -> None:
    """Copy a run's folder, without what reports do not need, unless it is there already."""
    if run.path.is_dir() and not target.exists():
        with replacing(target) as fresh:
            shutil.copytree(run.path, fresh, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT))
