"""`lethe annotate export`: an HTML form for each annotator, with the same outputs in their own order and no row named.

Which row said what stays in results/<name>/people/<form>.json. An output that several rows gave to one prompt is shown once.
"""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from harness.errors import PlanError, raise_faults
from harness.store.comparisons import Comparison, read_comparison, read_texts
from harness.store.files import write_atomic
from harness.store.hashes import write_hashed
from harness.store.results import open_results
from harness.store.schema import key_of
from harness.visible import visible
from harness.vocabulary import EvalKind, Role, Status

SCALES = {
    "correctness": "Is what it says right? (1: wrong, 5: entirely right)",
    "fluency": "Is it well-formed language? (1: unreadable, 5: faultless)",
    "usefulness": "Does it help whoever asked? (1: not at all, 5: fully)",
    "relevance": "Does it answer what was asked, and nothing else? (1: another subject, 5: to the point)",
}
LEAST = 50
"""Outputs on a form, where there are as many."""
SEED = 20251
HERE = Path(__file__).parent


class JudgedOutput(TypedDict):
    """One output of a form, and whose it is."""

    id: str
    rows: list[str]
    """Every row that gave it."""
    group: str
    item: str
    """Task and item of its prompt."""
    cluster: str
    prompt: str
    """Without the chat template."""
    output: str
    target: str


def export_forms(name: str, to: str, annotators: int = 3, items: int = LEAST, out: str = "results") -> list[Path]:
    """Write the forms of a comparison; the same comparison gives the same forms. Raises PlanError where it cannot."""
    faults = []
    if annotators < 1:
        faults.append(f"annotators must be at least 1, not {annotators}")
    if items < LEAST:
        faults.append(f"items must be at least {LEAST}, not {items}: fewer judged outputs tell nothing")
    raise_faults(faults)
    results = open_results(out)
    results.record(name)
    folder = results.folder(name)
    outputs = choose(read_comparison(folder, results.store), items)
    if not outputs:
        raise PlanError(f"{folder} holds no generated answers of finished runs; give SUITES or data with answers to generate")
    # Ratings are read back by the form that they were given on, which holds which output was whose.
    form = key_of([list(SCALES), outputs])
    write_hashed(folder / "people" / f"{form}.json", {"form": form, "scales": list(SCALES), "outputs": outputs})
    files = [Path(to) / f"{name}-annotator-{number}.html" for number in range(1, annotators + 1)]
    for number, file in enumerate(files, 1):
        # Each annotator sees another order, so that tiredness falls on other outputs.
        shuffled = random.Random(f"{form}/{number}").sample(outputs, len(outputs))
        write_atomic(file, render(name, form, number, shuffled))
    return files


def _answered_by_all(comparison: Comparison) -> pd.DataFrame:
    """Return the answers to prompts that the base and every recipe that ended well have answered, of the first seed."""
    table = _answers(comparison)
    rows = {run["row"] for run in comparison.runs if run["role"] in (Role.BASE, Role.RECIPE) and run["status"] == Status.DONE}
    table = table[table["row"].isin(rows)]
    table = table[table["seed"] == table.groupby("row")["seed"].transform("min")]
    answered = table.groupby(["task", "item"])["row"].transform("nunique")
    return table[answered == table["row"].nunique()]


def _in_turn(table: pd.DataFrame) -> list[Any]:
    """Return the prompts, hash-sampled; those of the groups take turns."""
    prompts = table[["group", "task", "item"]].drop_duplicates().to_dict("records")
    prompts.sort(key=lambda prompt: key_of([SEED, *prompt.values()]))
    by_group: dict[str, list[Any]] = {}
    for prompt in prompts:
        by_group.setdefault(prompt["group"], []).append(prompt)
    turns = zip_longest(*(by_group[group] for group in sorted(by_group)))
    return [prompt for prompt in chain.from_iterable(turns) if prompt]


def choose(comparison: Comparison, items: int) -> list[JudgedOutput]:
    """Return at least so many outputs, where there are: whole prompts, answered by the base and every recipe that ended well.

    Domain and general prompts take turns, drawn by content.
    """
    table = _answered_by_all(comparison)
    bare = without_template(sorted(set(table["prompt"])))

    # An output that several rows gave is judged once, for all of them.
    outputs: list[JudgedOutput] = []
    for prompt in _in_turn(table):
        if len(outputs) >= items:
            break
        task = prompt["task"]
        item = prompt["item"]
        part = table[(table["task"] == task) & (table["item"] == item)]
        for output, same in part.groupby("output", sort=True):
            first = same.iloc[0]
            outputs.append(
                {
                    "id": key_of([task, item, output]),
                    "rows": sorted(same["row"]),
                    "group": prompt["group"],
                    "item": f"{task}/{item}",
                    "cluster": first["cluster"],
                    "prompt": bare[first["prompt"]],
                    "output": str(output),
                    "target": first["target"],
                }
            )
    return outputs


def _answers(comparison: Comparison) -> pd.DataFrame:
    """Return free answers where there are any, else what the tasks made the models generate."""
    table = comparison.quality
    if len(table):
        table = table[table["primary"] & table["task"].str.endswith("_greedy")]
    if not len(table):
        scores = read_texts(comparison.runs, comparison.store, EvalKind.FINAL)
        table = scores[scores["primary"] & (scores["channel"] == "generation")]
    texts = table.assign(**{name: table[name].fillna("").astype(str) for name in ("prompt", "output", "target", "cluster")})
    return texts[["row", "seed", "group", "task", "item", "cluster", "prompt", "output", "target"]].astype(object)


def without_template(prompts: list[str]) -> dict[str, str]:
    """Return prompt -> what of it is not the chat template: without the marks that all prompts begin and end with."""
    begin = _common(prompts)
    begin = begin[: max(begin.rfind("\n"), begin.rfind(">")) + 1]
    end = _common([prompt[len(begin) :][::-1] for prompt in prompts])[::-1]
    marks = [position for position in (end.find("\n"), end.find("<")) if position >= 0]
    size = len(end) - min(marks) if marks else 0
    return {p: p[len(begin) : len(p) - size].strip() for p in prompts} if len(prompts) > 1 else {p: p for p in prompts}


def _common(texts: list[str]) -> str:
    """Return the longest beginning that all texts share: that of the first and the last in sorted order."""
    first = min(texts)
    last = max(texts)
    size = 0
    while size < min(len(first), len(last)) and first[size] == last[size]:
        size += 1
    return first[:size]


def render(name: str, form: str, number: int, outputs: Sequence[JudgedOutput]) -> str:
    """Return the form as one page that opens offline. What a model wrote is shown, never run."""
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["visible"] = lambda text: visible(text, None)
    script = (HERE / "form.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values = {"name": name, "form": form, "number": number, "outputs": outputs, "scales": SCALES}
    return environment.get_template("form.html.j2").render(values, script=Markup(script), digest=digest)
