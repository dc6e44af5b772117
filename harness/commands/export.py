"""`lethe export`: a run's model as a checkpoint that transformers loads, with its card, verified to score as in the table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.checkpoints.loading import load_model
from harness.commands.compare import prepare
from harness.commands.recorded import plan_of
from harness.contract import Weights
from harness.errors import PlanError
from harness.models.base_model import read_weights, save_model, weights_hash
from harness.recipes.recipe import parse_recipe
from harness.report.summary.summarise import summarise
from harness.report.summary.summary import Summary
from harness.report.tables.main_table import full_table
from harness.report.verdict.cautions import cautions
from harness.report.verdict.model_card import card
from harness.report.verdict.verdict import verdict_of
from harness.setup.evaluations import EvaluationPlan
from harness.setup.material import Material
from harness.setup.specs import spec_of
from harness.store.comparisons import read_comparison
from harness.store.files import replacing
from harness.store.results import Results, open_results
from harness.store.runs import RunFolder, RunStore
from harness.store.schema import RowRecord
from harness.vocabulary import EvalKind, Role
from harness.workers.local import run_all

SAMPLE = {"domain": 100, "general": 200}
"""Items scored again before anything is handed over."""
MOST = 0.01
"""Share of them that may score otherwise: another processor rounds otherwise, and a few items stand on an edge."""


def export(
    name: str,
    to: str,
    recipe: str | None = None,
    seed: int = 0,
    retrain: bool = False,
    out: str = "results",
    code: Sequence[str] = (),
) -> str:
    """Write the checkpoint to `to`; gives a sentence on what it is. Raises PlanError where it cannot be had or verified."""
    results = open_results(out)
    record = results.record(name)
    store = results.store
    target = Path(to)
    # An existing checkpoint is never overwritten: it may be in use.
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise PlanError(f"'{to}' is there already: give --to a new folder")

    # The recipe is the verdict's, unless one is named.
    summary = summarise(read_comparison(results.folder(name), store))
    row = recipe or winner(summary)
    entry = _entry(record, store, row, seed)
    material, evaluation, allowed = prepare(plan_of(record, code, recipes=entry["recipe"], out=out))
    if not parse_recipe(entry["recipe"]).folds:
        raise PlanError(
            f"{row} cannot be exported: what it adds does not fold into the base's weights, so transformers cannot load it"
        )
    weights = _weights(entry, results, material, evaluation, allowed, retrain)

    # Nothing is handed over that does not score as the table says.
    with replacing(target) as fresh:
        save_model(material.base, weights, fresh)
        checked = _verify(fresh, store.run(entry["key"]), entry, material, evaluation)
        line = full_table(summary).set_index("row", drop=False).loc[row].to_dict()
        numbers = {str(column): value for column, value in line.items()}
        warnings = [caution.text for caution in cautions(summary) if not caution.rows or row in caution.rows]
        (fresh / "README.md").write_text(card(record, numbers, checked, warnings), encoding="utf-8")
    return f"{row}, seed {seed}: {target}. {checked}"


def winner(summary: Summary) -> str:
    """Return the recipe that the verdict chooses.

    Raises PlanError if it chooses none, or if the choice cannot be told apart from any other recipe.
    """
    verdict = verdict_of(summary)
    # A choice that stands apart from no other is not exported by itself: the user must name it.
    refusal = verdict.advice.refusal if verdict.advice else verdict.sentence.rstrip(".")
    if verdict.row and not refusal:
        return verdict.row
    names = ", ".join(row.name for row in summary.recipes if row.done)
    raise PlanError(f"the report chooses no recipe: {refusal}; choose one yourself with --recipe: {names}")


def _entry(record: Mapping[str, Any], store: RunStore, row: str, seed: int) -> RowRecord:
    """Return the row of comparison.json. Raises PlanError where it is not there, or did not end well."""
    recipes = [entry for entry in record["rows"] if entry["role"] == Role.RECIPE]
    entry = next((entry for entry in recipes if entry["row"] == row and entry["seed"] == seed), None)
    if entry is None:
        names = ", ".join(dict.fromkeys(entry["row"] for entry in recipes))
        raise PlanError(f"there is no recipe '{row}' with seed {seed}; the comparison has {names}, seeds from 0")
    status = store.run(entry["key"]).status
    # A run that ended otherwise has no model to hand over.
    if status != "done":
        raise PlanError(
            f"{row} (seed {seed}) {status or 'is not in the run store'}: there is no model; run `{record['command']}` again"
        )
    return entry


def _weights(
    entry: RowRecord, results: Results, material: Material, evaluation: EvaluationPlan, allowed: float, retrain: bool
) -> Weights:
    """Return the weights as kept, or trained again where that is asked; bit for bit what was scored."""
    folder = results.store.run(entry["key"])

    # Kept weights are checked as those trained again are: a file may have been replaced.
    path = folder.weights
    wanted = ((folder.read("run") or {}).get("happened") or {}).get("weights_hash")
    if wanted is None:
        raise PlanError(f"{folder.path} does not say which weights were scored; run the same `lethe compare` again")
    if path.exists():
        weights = read_weights(path)
    elif retrain:
        with results.scratch("export") as scratch:
            weights = _trained_again(entry, material, evaluation, allowed, RunStore(scratch))
    else:
        seconds = folder.read("ledger")["seconds"]
        raise PlanError(
            f"the weights of {entry['row']} were not kept (keep={material.plan.keep:g} GB): `--retrain` trains them again, bit"
            f" for bit, in about {seconds:,.0f} device-seconds"
        )
    if weights_hash(weights) != wanted:
        cause = "this machine, or its versions, round otherwise than the one that trained them"
        raise PlanError(
            f"the weights of {entry['row']} are not those that were scored ({weights_hash(weights)}, not {wanted}): "
            + (cause if retrain else "train them again: --retrain")
        )
    return weights


def _trained_again(
    entry: RowRecord, material: Material, evaluation: EvaluationPlan, allowed: float, store: RunStore
) -> Weights:
    """Train the run in a store of its own; nothing is scored on the way."""
    spec = spec_of(material, entry["row"], Role.RECIPE, parse_recipe(entry["recipe"]), entry["seed"], allowed)
    spec = dataclasses.replace(spec, kinds=(), models=())

    # The same key is the same question, so the same weights.
    if spec.key != entry["key"]:
        raise PlanError(
            f"{entry['row']} cannot be trained again: its question was {entry['key']}, here it is {spec.key}; the method's"
            " source, torch or the data differ from when it ran (`run.json` has all of them)"
        )

    # Only the training is repeated: the scores are in the store.
    run_all([spec], material, dataclasses.replace(evaluation, keep=True), store, lambda *_: None)
    status = store.run(spec.key).read("status") or {}
    if status.get("status") != "done":
        raise PlanError(f"{entry['row']} could not be trained again: {status.get('reason')}")
    return read_weights(store.run(spec.key).weights)


def _verify(checkpoint: Path, run: RunFolder, entry: RowRecord, material: Material, evaluation: EvaluationPlan) -> str:
    """Score a sample with the checkpoint as transformers loads it, against the stored scores; says what was found."""
    if evaluation.keys[EvalKind.FINAL] != entry["evals"][EvalKind.FINAL]:
        raise PlanError("the scores cannot be verified: the suites or their prompts are not what they were when it was scored")

    # As a user will load it: by transformers, in fp32.
    evaluator = evaluation.open(material).evaluator(EvalKind.FINAL).sample(**SAMPLE)
    model = load_model(str(checkpoint), dtype=_float32(), device=material.plan.device)
    now = evaluator.score(model, drift=False)
    differing, of = compared(now, run.scores(EvalKind.FINAL, entry["evals"][EvalKind.FINAL]))
    if differing > MOST * of:
        raise PlanError(
            f"refused: {differing} of {of} items score otherwise than in the table, more than {100 * MOST:g} % of them;"
            " the checkpoint is not the model that was measured, or this machine reads it otherwise"
        )
    outcome = f"{differing} score otherwise than in the table, by rounding" if differing else f"all {of} score as in the table"
    return f"Verified on {of} items, loaded by transformers in fp32: {outcome}."


def compared(now: pd.DataFrame, then: pd.DataFrame | None) -> tuple[int, int]:
    """Return (items whose primary score differs, items compared); an item scored on one side only differs."""
    if then is None:
        raise PlanError("the scores cannot be verified: the store does not hold them any more")
    keys = ["task", "metric", "item"]
    primary = now[now["primary"].astype(bool)][[*keys, "score"]]
    both = primary.merge(then[[*keys, "score"]], on=keys, how="left", suffixes=("", "_then"))
    same = (both["score"] - both["score_then"]).abs() <= 1e-6

    # An item without a score on both sides (an empty answer has no bits a byte) scores the same.
    return int((~same & ~(both["score"].isna() & both["score_then"].isna())).sum()), len(both)


def _float32() -> Any:
    import torch

    return torch.float32
