"""A stored comparison made ready to show: a row per recipe with its numbers, costs and fate, and what may be said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from harness.plan.values import STANDARD
from harness.report.summary.curves import Curves, read_curves
from harness.report.summary.format import points
from harness.report.summary.fronts import Way, leading, read_ways
from harness.report.summary.rows import TRACKS, Row, base_of, constant_of, dig, rows_of
from harness.report.summary.rule import limits_in
from harness.report.summary.stages import Stages, read_stages
from harness.report.summary.trials import is_point, read_trials
from harness.stats import claims
from harness.stats.analysis import Analysis, Estimate, analyse
from harness.stats.frontier import Plane, Standing, standings
from harness.stats.tradeoffs import Terms
from harness.store.comparisons import Comparison, among, read_texts
from harness.store.runs import WITHOUT_MODEL, RunStore

T = TypeVar("T")
REFERENCES = ("sft", "low_lr")
"""Superiority is claimed over these two, with Holm's correction over all such comparisons of the table."""


READABLE = 20.0
"""Points above chance of the base, mean over families, from which what is kept is shown in per cent.

A guess: below it a point of general score is five per cent and more.
"""


@dataclass(frozen=True)
class Summary:
    """Everything the page, the tables and the plots show."""

    record: dict[str, Any]
    rows: list[Row]
    analysis: Analysis | None
    curves: Curves
    scores: pd.DataFrame = field(repr=False)
    """Final item scores of finished runs."""
    store: RunStore = field(repr=False)
    trials: pd.DataFrame = field(repr=False)
    """row, recipe, selected, status, gain and change on dev items with intervals, n, flops, seconds: a line a trial."""
    stages: Stages | None
    """Scores after each stage, where the plan has several."""
    answers: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    """Free answers to fixed prompts, likewise."""
    probed: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    """General item scores after the recovery probe, likewise."""
    people: dict[str, Any] = field(default_factory=dict, repr=False)
    """What people's ratings came to."""
    known: dict[tuple[str, str], Estimate] = field(default_factory=dict, repr=False)
    """Estimates asked for before: large tables are asked the same many times."""
    made: dict[Callable[[Summary], Any], Any] = field(default_factory=dict, repr=False)
    """What `computed` has computed."""
    ways: tuple[Way, ...] = ()
    """Every way of reading methods at the same gain, the one to lead with first."""
    points: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    """row, recipe, name: settings of tuned recipes that were scored on test items beside the selected one, a line each."""

    @property
    def base(self) -> str:
        return base_of(self.rows)

    @property
    def scales(self) -> list[str]:
        """What people judged by, the mean of all last; empty where nobody did."""
        found = self.people.get("rows") or {}
        return [scale for scale in next(iter(found.values()), {}) if scale != "change"]

    def rating(self, row: str, scale: str, change: bool = False) -> Estimate:
        """People's mean rating of a row's outputs from 1 to 5, or its change against the base."""
        found = dig(self.people, "rows", row, *(["change"] if change else []), scale) or {}
        numbers = [np.nan if (value := found.get(name)) is None else float(value) for name in ("value", "low", "high")]
        return Estimate(*numbers, n=int(found.get("n") or 0))

    @property
    def constant(self) -> str | None:
        """The row that always gives the commonest training answer, where there is one."""
        return constant_of(self.rows)

    @cached_property
    def matched(self) -> Way:
        """The way by which the report reads what is kept at the same gain: the first that compares two curves."""
        return leading(self.ways)

    @property
    def compared(self) -> list[Row]:
        """The finished recipes that may be told apart: those of several seeds. One seed says nothing about another training."""
        return [row for row in self.recipes if row.done and self.analysis and self.analysis.compares(row.name)]

    @property
    def recipes(self) -> list[Row]:
        return [row for row in self.rows if row.role == "recipe"]

    def track(self, name: str) -> list[Row]:
        return [row for row in self.recipes if row.track == name]

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    def texts(self, row: str, runs: int | None = None) -> pd.DataFrame:
        """A row's final scores with prompts, outputs and targets, from the store; `runs`: of the first so many."""
        return read_texts(self._finished(row)[:runs], self.store, "final")

    def logs(self, row: str) -> Iterator[dict[str, Any]]:
        """The logged steps of a row's finished runs, from the store."""
        return (step for run in self._finished(row) for step in self.store.run(run["key"]).log())

    def _finished(self, name: str) -> list[dict[str, Any]]:
        return [run for row in self.rows if row.name == name for run in row.finished]

    def estimate(self, quantity: str, row: str) -> Estimate:
        if (quantity, row) not in self.known:
            self.known[quantity, row] = self.analysis.estimate(quantity, row) if self.analysis else Estimate()
        return self.known[quantity, row]

    def difference(self, quantity: str, row: str, reference: str) -> Estimate:
        return self.analysis.difference(quantity, row, reference) if self.analysis else Estimate()

    def computed(self, make: Callable[[Summary], T]) -> T:
        """Return `make(self)`, computed at the first call: a derived table is asked for in many places."""
        if make not in self.made:
            self.made[make] = make(self)
        return self.made[make]

    @cached_property
    def gain_unit(self) -> str:
        """What gain is counted in: points of a score, or where texts are read hundredths of a bit a byte fewer."""
        measures = self.analysis.measures if self.analysis else pd.DataFrame()
        domain = measures.query("headline and group == 'domain'") if len(measures) else measures
        bits = len(domain) > 0 and (domain["metric"] == "bits_per_byte").all()
        return "1/100 bit per byte" if bits else "points"

    @property
    def in_per_cent(self) -> bool:
        """Return whether shares of the base's general ability are shown: of a small ability they scatter, points do not."""
        return bool(self.analysis and self.analysis.ability >= READABLE)

    @property
    def why_points(self) -> str:
        """Say why no share is shown."""
        ability = self.analysis.ability if self.analysis else np.nan
        if not np.isfinite(ability):
            return "no family stands above chance, so there is no share of the base's ability"
        return f"points only: the base is {points(ability)} points above chance, of which a share says little"

    def names(self, prefix: str) -> list[str]:
        """Last parts of the quantities that start so: `change:family:` -> families."""
        return sorted(q[len(prefix) :] for q in (self.analysis.point if self.analysis else {}) if q.startswith(prefix))

    def worst_family(self, row: str) -> str | None:
        """The family that lost most, in points of the chance-corrected score."""
        known = {f: self.estimate(f"change:family:{f}", row).value for f in self.names("change:family:")}
        known = {family: value for family, value in known.items() if np.isfinite(value)}
        return min(known, key=lambda family: known[family]) if known else None

    @cached_property
    def references(self) -> list[str]:
        return _references(self.rows)

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """Each finished recipe against each reference: differences in points, Holm's p (of recipes with several seeds), and the
        items that only one of two models answered right."""
        pairs = [(row.name, ref) for row in self.recipes if row.done for ref in self.references if row.name != ref]
        lines = []
        for row, ref in pairs:
            change, gain = self.difference("change", row, ref), self.difference("gain", row, ref)
            lines.append({"row": row, "reference": ref, "change": change, "gain": gain, "p": change.p})
            lines[-1] |= flips(self, row, ref)
        table = pd.DataFrame(lines, columns=["row", "reference", "change", "gain", "p", "lost", "won"])
        return table.assign(holm=claims.holm(table["p"].to_list()), pairs=int(table["p"].notna().sum()))

    def contrast(self, row: str, reference: str) -> pd.Series | None:
        found = self.contrasts[(self.contrasts["row"] == row) & (self.contrasts["reference"] == reference)]
        return found.iloc[0] if len(found) else None

    @cached_property
    def kept(self) -> pd.DataFrame:
        """row, task, metric, item, score where the task and metric enter retention."""
        measures = self.analysis.measures if self.analysis else pd.DataFrame(columns=["task", "metric", "kept"])
        pairs = set(measures.query("kept")[["task", "metric"]].itertuples(index=False, name=None))
        return among(self.scores[["row", "task", "metric", "item", "score"]], ("task", "metric"), pairs)

    @cached_property
    def binary(self) -> pd.DataFrame:
        """(item) x (row) right or wrong on the general tasks that enter retention and are scored 0 or 1; first seed.

        Where lower is better 1 is no right answer: such tasks stay out.
        """
        if self.analysis is None:
            return pd.DataFrame()
        rising = self.analysis.measures.query("kept and higher_better")[["task", "metric"]]
        table = among(self.kept, ("task", "metric"), set(rising.itertuples(index=False, name=None)))
        known = table["score"].isin([0, 1]) | table["score"].isna()
        table = table[known.groupby([table["task"], table["metric"]]).transform("all")]
        return table.pivot_table(index=["task", "metric", "item"], columns="row", values="score", aggfunc="first")

    @cached_property
    def standings(self) -> dict[str, Standing]:
        """Row -> where it stands among the rows of its track that are compared, as probabilities."""
        if self.analysis is None:
            return {}
        compared = [row.name for row in self.compared]
        tracks = [[row.name for row in self.track(track) if row.name in compared] for track in TRACKS]
        tracks = [[name for name in names if name in self.analysis.rows] for names in tracks]
        return {row: found for names in tracks for row, found in standings(self.analysis, self.base, names).items()}

    def hypervolume(self, track: str) -> Estimate:
        """What a track's recipes dominate together, against the base's domain score and chance."""
        names = [row.name for row in self.track(track) if row.done and self.analysis and row.name in self.analysis.rows]
        return Plane(self.analysis, names).total() if self.analysis else Estimate()


def summarise(comparison: Comparison, reps: int = 10_000) -> Summary:
    """Gather rows and statistics; only runs that ended well give numbers."""
    rows = rows_of(comparison.runs)
    done = {(run["row"], run["seed"]) for run in comparison.runs if run["status"] == "done"}
    tables = [_done(table, done) for table in (comparison.scores, comparison.curve, comparison.path)]
    base, everything = base_of(rows), tables[0]
    tables = [_without_calibration(table) for table in tables]
    points = _points_of(comparison)
    final = pd.concat([tables[0], _without_calibration(comparison.points)], ignore_index=True) if len(points) else tables[0]
    scored = tables[0].loc[tables[0]["row"] == base, "score"].notna().any()
    analysis = analyse(final, base, reps=reps, constant=constant_of(rows)) if scored else None

    # every way of reading methods at the same gain
    fewer = min(reps, 2000)
    terms = Terms(limits_in(comparison.record).loss or STANDARD.loss or 0.0, tuple(_references(rows)))
    curves = read_curves(tables[0], tables[1], tables[2], analysis, base, fewer, terms)
    trials, tried = read_trials(comparison.trials, comparison.dev, base, fewer)
    ways = read_ways(rows, analysis, points, (trials, tried), curves, terms)

    # rows that no model is behind have no stages
    trained = [row.name for row in rows if row.role not in WITHOUT_MODEL]
    own = tables[0][tables[0]["row"].isin(trained)]
    stages = read_stages(comparison.record, own, _done(comparison.stages, done), base, fewer)
    answers, probed = _done(comparison.quality, done), _done(comparison.probe, done)
    told = trials, stages, answers, probed, comparison.people or {}
    return Summary(comparison.record, rows, analysis, curves, everything, comparison.store, *told, ways=ways, points=points)


def _references(rows: list[Row]) -> list[str]:
    """Names of the finished rows that others are compared with."""
    named = {row.name.split("(")[0]: row.name for row in rows if row.role == "recipe" and row.done}
    return [named[name] for name in REFERENCES if name in named]


def _points_of(comparison: Comparison) -> pd.DataFrame:
    """The settings of tuned recipes that were scored on test items: row, recipe, name."""
    found = [entry for entry in comparison.trials if is_point(entry) and entry["status"] == "done"]
    lines = [{"row": entry["row"], "recipe": entry["recipe"], "name": entry["trial"]} for entry in found]
    return pd.DataFrame(lines, columns=["row", "recipe", "name"]).drop_duplicates(ignore_index=True)


def flips(summary: Summary, row: str, reference: str) -> dict[str, float]:
    """Items only the reference (`lost`) or only the row (`won`) answered right: of one seed each, where scores are 0 or 1."""
    empty = {"lost": np.nan, "won": np.nan}
    if summary.analysis is None or max(summary.analysis.seeds.get(name, 0) for name in (row, reference)) != 1:
        return empty
    wide = summary.binary
    if row not in wide or reference not in wide:
        return empty
    pair = wide[[row, reference]].dropna()
    return {"lost": int((pair[row] < pair[reference]).sum()), "won": int((pair[row] > pair[reference]).sum())}


def _done(table: pd.DataFrame, done: set[tuple[str, int]]) -> pd.DataFrame:
    return among(table, ("row", "seed"), done).reset_index(drop=True)


def _without_calibration(table: pd.DataFrame) -> pd.DataFrame:
    """Scores that have a mean over items."""
    keep = (table["channel"] != "calibration").to_numpy(bool)
    return table if keep.all() else table[keep].reset_index(drop=True)
