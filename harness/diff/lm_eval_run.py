"""What lm-eval 0.4 writes with `--log_samples`: a results JSON, and a JSONL of samples for each task.

    results_<date>.json         or <name>_<date>.json where --output_path named a .json file
    samples_<task>_<date>.jsonl one line a document and filter; metrics by name

A sample keeps its document, a hash of it, and the value of every metric.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import PlanError, raise_faults
from harness.store.opening import exists, opened_text, read_text
from harness.text.bounds import as_float
from harness.text.json_reader import Form, misfit

SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d[\d.]*)\.jsonl$")
DATED = re.compile(r".+_(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d[\d.]*)\.json$")
BESIDE = (
    *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
    *("doc_hash", "prompt_hash", "target_hash"),
)
"""Entries of a sample that are no metrics; older files do not list these."""
SAMPLE_FORM: Form = {"metrics": [str]}
"""Of a sample, as far as it is read without looking."""
LONGEST = 80
"""Characters of a document by which it is shown."""
READ = 400
"""Characters of a document that are looked at for these: blanks become one."""


class Sample(NamedTuple):
    """One document under one filter."""

    doc_id: int
    content: str
    """Hash of the document."""
    prompt: str
    """Hash of the prompt; empty where the file has none."""
    filter: str
    values: dict[str, Any]
    """Metric -> its value, as lm-eval wrote it."""
    words: str
    """How the document begins, to name it by."""


@dataclass(frozen=True)
class LmEvalRun:
    """One run of lm-eval: its samples and what it printed of them."""

    name: str
    """The model, as the results name it; else the folder."""
    samples: dict[str, tuple[Sample, ...]]
    """Task -> its samples."""
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    """Task or group -> `metric,filter` -> what lm-eval printed; empty without a results JSON."""
    rising: dict[str, dict[str, bool]] = field(default_factory=dict)
    """Task -> metric -> whether higher is better, where the results say so."""
    shots: dict[str, Any] = field(default_factory=dict)
    """Task -> number of few-shot examples."""
    versions: dict[str, Any] = field(default_factory=dict)
    """Task -> its version."""
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Group -> its tasks, those of the groups below it included."""
    notes: tuple[str, ...] = ()


def read_both(before: str, after: str) -> tuple[LmEvalRun, LmEvalRun]:
    """Read two runs. Raises one PlanError with the faults of both."""
    runs: list[LmEvalRun] = []
    faults: list[str] = []
    for folder in (before, after):
        try:
            runs.append(read_run(folder))
        except PlanError as error:
            faults += error.faults
    raise_faults(faults)
    return runs[0], runs[1]


def read_run(given: str) -> LmEvalRun:
    """Read a run from a folder of lm-eval, its results JSON, or one JSONL of samples.

    Of a task that was run more than once the newest samples count, and a note says so. Raises PlanError where there are no
    samples, where several models lie in the folder, and where a file is not lm-eval's.
    """
    path = Path(given).expanduser()
    if not exists(path):
        raise PlanError(f"'{given}' does not exist; give a folder that lm-eval wrote with --output_path and --log_samples")
    # One file of samples is a run by itself; its results are not looked for.
    if path.is_file() and path.suffix == ".jsonl":
        return _read([_sample_file(path)], [], path.stem, [])
    folder = path if path.is_dir() else path.parent
    folder = _folder_of_model(folder)
    files = [_sample_file(file) for file in sorted(folder.iterdir()) if SAMPLES.match(file.name)]
    results = sorted(file for file in folder.iterdir() if DATED.match(file.name))
    # A results JSON names its run by date: a folder may hold several.
    if path.is_file():
        date = (DATED.match(path.name) or {"date": ""})["date"]
        files = [entry for entry in files if entry[1] == date]
        results = [path]
    if not files:
        cure = "run lm-eval again with --log_samples and --output_path, and give that folder"
        raise PlanError(f"'{given}' holds no samples_<task>_<date>.jsonl, without which nothing can be paired; {cure}")
    newest, notes = _newest(files)
    return _read(newest, results, folder.name, notes)


def _folder_of_model(folder: Path) -> Path:
    """Return the folder with the samples: this one, or the only one below it. Raises PlanError where there are several."""
    if any(SAMPLES.match(file.name) for file in folder.iterdir()):
        return folder
    # lm-eval writes a folder per model below --output_path.
    below = [child for child in sorted(folder.iterdir()) if child.is_dir()]
    below = [child for child in below if any(SAMPLES.match(file.name) for file in child.iterdir())]
    if len(below) > 1:
        names = ", ".join(str(child) for child in below)
        raise PlanError(f"'{folder}' holds the samples of several models; name one: {names}")
    return below[0] if below else folder


SampleFile = tuple[str, str, Path]
"""Task, date and file."""


def _sample_file(path: Path) -> SampleFile:
    match = SAMPLES.match(path.name)
    return (match["task"], match["date"], path) if match else (path.stem.removeprefix("samples_"), "", path)


def _newest(files: list[SampleFile]) -> tuple[list[SampleFile], list[str]]:
    """Return each task's newest file, and a note on those that are passed over."""
    # In the order of their dates, so that the last one stays.
    newest: dict[str, SampleFile] = {}
    for entry in sorted(files, key=lambda entry: entry[1]):
        newest[entry[0]] = entry
    notes = []
    if older := len(files) - len(newest):
        folder = files[0][2].parent
        notes.append(f"{folder} holds {older} older samples of the same tasks: the newest of each task count.")
    return list(newest.values()), notes


def _read(files: list[SampleFile], results: list[Path], name: str, notes: list[str]) -> LmEvalRun:
    """Read samples and, of the results, those that were written with them."""
    # All files are read before anything is refused, so that every fault is told at once.
    samples: dict[str, tuple[Sample, ...]] = {}
    faults: list[str] = []
    for task, _, file in files:
        try:
            samples[task] = tuple(_samples(file))
        except PlanError as error:
            faults += error.faults
    records: dict[str, dict[str, Any]] = {}
    for file in results:
        try:
            records[(DATED.match(file.name) or {"date": ""})["date"]] = _record(file)
        except PlanError as error:
            faults += error.faults
    raise_faults(faults)
    if not any(samples.values()):
        raise PlanError(f"{files[0][2]} holds no sample, nor does any other file of this run; copy the files again")
    # Directions, shots and versions are in the results; samples alone do not say them.
    dated = [(task, records[date]) for task, date, _ in files if date in records]
    grouped: dict[str, dict[str, Any]] = {}
    for _, record in dated:
        for group in record.get("group_subtasks") or {}:
            grouped[group] = record
    if len(dated) < len(files):
        notes = [
            *notes,
            f"{name}: no results JSON of the same date for {len(files) - len(dated)} tasks; directions are guessed.",
        ]
    # The folder's name stands in where no results name the model.
    names = [str(record["model_name"]) for _, record in dated if record.get("model_name")]
    return LmEvalRun(
        names[-1] if names else name,
        samples,
        {name: _numbers(record.get("results", {}).get(name)) for name, record in [*grouped.items(), *dated]},
        {task: record.get("higher_is_better", {}).get(task) or {} for task, record in dated},
        {task: record.get("n-shot", {}).get(task) for task, record in dated},
        {task: record.get("versions", {}).get(task) for task, record in dated},
        _groups(grouped),
        tuple(notes),
    )


def _groups(records: dict[str, dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Return the tasks of each group; some versions list a task as a group without any, which is left out."""
    groups = {}
    for group, record in records.items():
        if record["group_subtasks"][group]:
            groups[group] = tuple(dict.fromkeys(_leaves(group, record["group_subtasks"], ())))
    return groups


def _leaves(name: str, below: dict[str, list[str]], above: tuple[str, ...]) -> Iterator[str]:
    """Yield the tasks below a group, through the groups below it; `above`: the groups that it stands in."""
    children = below.get(name)
    if not children:
        yield name
        return
    for child in children:
        # A group that contains itself would be walked for ever.
        if child not in above:
            yield from _leaves(child, below, (*above, name))


def _numbers(printed: Any) -> dict[str, float]:
    """Return the scores among what lm-eval printed of a task; standard errors are left out."""
    pairs = (printed or {}).items()
    return {key: as_float(value) for key, value in pairs if isinstance(value, (int, float)) and "_stderr," not in key}


def _record(file: Path) -> dict[str, Any]:
    """Return a results JSON. Raises PlanError where it is none."""
    text = read_text(file, str(file))
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{file} is not JSON ({error}); it is no results file of lm-eval") from None
    if not isinstance(record, dict) or "results" not in record:
        raise PlanError(f"{file} has no `results`: it is no results file of lm-eval")
    return record


def _samples(file: Path) -> Iterator[Sample]:
    """Yield the samples of a file. Raises PlanError with the line that is none."""
    with opened_text(file, source=str(file)) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _sample(line, file.name, number)


def _sample(line: str, name: str, number: int) -> Sample:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        cure = "the file is damaged or cut off: copy it again"
        raise PlanError(f"{name}, line {number} is not JSON ({error}); {cure}") from None
    if not isinstance(entry, dict) or "doc" not in entry or not isinstance(entry.get("doc_id"), int):
        raise PlanError(f"{name}, line {number} has no `doc` and `doc_id`: it is no sample of lm-eval 0.4")
    if fault := misfit(entry, SAMPLE_FORM):
        raise PlanError(f"{name}, line {number}: {fault}, which no sample of lm-eval 0.4 has")
    names = entry.get("metrics") or [name for name in entry if name not in BESIDE]
    values = {str(name): entry[name] for name in names if name in entry}
    content = entry.get("doc_hash") or _hash(entry["doc"])
    return Sample(
        entry["doc_id"],
        str(content),
        str(entry.get("prompt_hash") or ""),
        str(entry.get("filter") or "none"),
        values,
        _words(entry["doc"]),
    )


def _hash(document: Any) -> str:
    """Return a hash of a document, for files without one: as lm-eval makes it."""
    return hashlib.sha256(json.dumps(document, indent=2, ensure_ascii=False).encode()).hexdigest()


def _words(document: Any) -> str:
    """Return how a document begins: its first text."""
    values = document.values() if isinstance(document, dict) else [document]
    texts = (value.strip() for value in values if isinstance(value, str))
    text = next((text for text in texts if text), "")
    words = " ".join(text[:READ].split())
    return words if len(text) <= READ and len(words) <= LONGEST else words[:LONGEST] + " ..."
