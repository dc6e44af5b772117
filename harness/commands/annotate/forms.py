"""`lethe annotate export`: one HTML form an annotator, with the same outputs in an order of her own; no row is named in it.

Which row said what stays in results/<name>/people/<form>.json. An output that several rows gave to one prompt is shown once.
"""

from __future__ import annotations

import base64
import hashlib
import random
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from harness.errors import PlanError, raise_faults
from harness.report.summary.format import visible
from harness.store.comparisons import Comparison, read_comparison, read_texts
from harness.store.files import write_atomic, write_json
from harness.store.results import open_results
from harness.store.schema import key_of
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


def export_forms(name: str, to: str, annotators: int = 3, items: int = LEAST, out: str = "results") -> list[Path]:
    """Write the forms of a comparison; the same comparison gives the same forms. Raises PlanError where it cannot."""
    raise_faults(
        [f"annotators must be at least 1, not {annotators}"] * (annotators < 1)
        + [f"items must be at least {LEAST}, not {items}: fewer judged outputs tell nothing"] * (items < LEAST)
    )
    results = open_results(out)
    results.record(name)
    folder = results.folder(name)
    outputs = choose(read_comparison(folder, results.store), items)
    if not outputs:
        raise PlanError(f"{folder} holds no generated answers of finished runs; give SUITES or data with answers to generate")
    form = key_of([list(SCALES), outputs])
    write_json(folder / "people" / f"{form}.json", {"form": form, "scales": list(SCALES), "outputs": outputs})
    files = [Path(to) / f"{name}-annotator-{number}.html" for number in range(1, annotators + 1)]
    for number, file in enumerate(files, 1):
        shuffled = random.Random(f"{form}/{number}").sample(outputs, len(outputs))
        write_atomic(file, render(name, form, number, shuffled))
    return files


def choose(comparison: Comparison, items: int) -> list[dict[str, Any]]:
    """At least so many outputs, as far as there are: whole prompts, answered by the base and every recipe that ended well.

    Domain and general prompts take turns, drawn by content.
    """
    table = _answers(comparison)
    rows = {run["row"] for run in comparison.runs if run["role"] in (Role.BASE, Role.RECIPE) and run["status"] == Status.DONE}
    table = table[table["row"].isin(rows)]
    table = table[table["seed"] == table.groupby("row")["seed"].transform("min")]
    answered = table.groupby(["task", "item"])["row"].transform("nunique")
    table = table[answered == table["row"].nunique()]
    bare = _without_template(sorted(set(table["prompt"])))
    keys = table[["group", "task", "item"]].drop_duplicates().to_dict("records")
    drawn = sorted(keys, key=lambda one: key_of([SEED, *one.values()]))
    by_group = [[one for one in drawn if one["group"] == group] for group in sorted({one["group"] for one in drawn})]
    prompts = [one for turn in zip_longest(*by_group) for one in turn if one]
    found: list[dict[str, Any]] = []
    for prompt in prompts:
        if len(found) >= items:
            break
        group, task, item = prompt["group"], prompt["task"], prompt["item"]
        part = table[(table["task"] == task) & (table["item"] == item)]
        for output, same in part.groupby("output", sort=True):
            one = same.iloc[0]
            found.append(
                {"id": key_of([task, item, output]), "rows": sorted(same["row"]), "group": group, "item": f"{task}/{item}"}
                | {"cluster": one["cluster"], "prompt": bare[one["prompt"]], "output": output, "target": one["target"]}
            )
    return found


def _answers(comparison: Comparison) -> pd.DataFrame:
    """Free answers where there are any, else what the tasks made the models generate."""
    table = comparison.quality
    if len(table):
        table = table[table["primary"] & table["task"].str.endswith("_greedy")]
    if not len(table):
        scores = read_texts(comparison.runs, comparison.store, EvalKind.FINAL)
        table = scores[scores["primary"] & (scores["channel"] == "generation")]
    texts = table.assign(**{name: table[name].fillna("").astype(str) for name in ("prompt", "output", "target", "cluster")})
    return texts[["row", "seed", "group", "task", "item", "cluster", "prompt", "output", "target"]].astype(object)


def _without_template(prompts: list[str]) -> dict[str, str]:
    """Prompt -> what of it is not the chat template: less the marks that all begin and end with."""
    begin = _common(prompts)
    begin = begin[: max(begin.rfind("\n"), begin.rfind(">")) + 1]
    end = _common([prompt[len(begin) :][::-1] for prompt in prompts])[::-1]
    marks = [place for place in (end.find("\n"), end.find("<")) if place >= 0]
    size = len(end) - min(marks) if marks else 0
    return {p: p[len(begin) : len(p) - size].strip() for p in prompts} if len(prompts) > 1 else {p: p for p in prompts}


def _common(texts: list[str]) -> str:
    """What all begin with."""
    first, last = min(texts), max(texts)
    return first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))]


def render(name: str, form: str, number: int, outputs: list[dict[str, Any]]) -> str:
    """The form as one page that opens offline; what a model wrote is shown, never run."""
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["visible"] = lambda text: visible(text, None)
    script = (HERE / "form.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values = {"name": name, "form": form, "number": number, "outputs": outputs, "scales": SCALES}
    return environment.get_template("form.html.j2").render(values, script=Markup(script), digest=digest)
