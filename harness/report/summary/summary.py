"""A stored comparison, ready to show: one row per recipe, and what may be said of it.

A row has numbers, costs and status. Derived tables are functions of a summary, made once by
`computed` (harness/report/summary/item_tables.py, contrasts.py, harness/report/tables/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from harness.report.summary.curves import Curves
from harness.report.summary.format import points
from harness.report.summary.fronts import Way, leading
from harness.report.summary.rows import Row, base_of, constant_of, dig, references_of
from harness.report.summary.stages import Stages
from harness.stats.analysis import Analysis, Estimate
from harness.stats.quantity_name import Measured, Scope, change_of_family
from harness.store.comparisons import read_texts
from harness.store.runs import RunStore
from harness.store.schema import LogLine, RunEntry
from harness.vocabulary import Area, EvalKind, Role, Track

T = TypeVar("T")


READABLE = 20.0
"""Least points above chance of the base, mean over families, for showing shares of it in per cent.

A guess: below it a point of general score is five per cent and more.
"""


@dataclass(frozen=True)
class Summary:
    """Everything that the page, the tables and the plots show."""

    record: dict[str, Any]
    rows: list[Row]
    analysis: Analysis | None
    curves: Curves
    scores: pd.DataFrame = field(repr=False)
    """Final item scores of finished runs."""
    store: RunStore = field(repr=False)
    trials: pd.DataFrame = field(repr=False)
    """One line per trial.

    row, recipe, selected, status, gain and change on dev items with intervals, n, flops, seconds.
    """
    stages: Stages | None
    """Scores after each stage, where the plan has several."""
    answers: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    """Free answers of finished runs to fixed prompts."""
    probed: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    """General item scores of finished runs after the recovery probe."""
    people: dict[str, Any] = field(default_factory=dict, repr=False)
    """Means of people's ratings."""
    estimates: dict[tuple[str, str], Estimate] = field(default_factory=dict, init=False, repr=False)
    """Estimates computed so far: large tables need the same one many times."""
    made: dict[Callable[[Summary], Any], Any] = field(default_factory=dict, init=False, repr=False)
    """Results of `computed`, by function; a changed copy (`dataclasses.replace`) has none."""
    ways: tuple[Way, ...] = ()
    """Every way of reading methods at the same gain, the one to lead with first."""
    points: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    """row, recipe, name: one line per setting of a tuned recipe that was scored on test items.

    The selected setting is not among them.
    """

    @property
    def base(self) -> str:
        """The name of the base's row."""
        return base_of(self.rows)

    @property
    def scales(self) -> list[str]:
        """What people judged by, the mean of all last; empty where nobody did."""
        ratings = self.people.get("rows") or {}
        first = next(iter(ratings.values()), {})
        return [scale for scale in first if scale != "change"]

    def rating(self, row: str, scale: str, change: bool = False) -> Estimate:
        """Return people's mean rating of a row's outputs, from 1 to 5, or its change."""
        # Stored as JSON, where a number that could not be computed is null.
        path = ("rows", row, "change", scale) if change else ("rows", row, scale)
        stored = dig(self.people, *path) or {}
        numbers = []
        for name in ("value", "low", "high"):
            number = stored.get(name)
            numbers.append(np.nan if number is None else float(number))
        return Estimate(*numbers, n=int(stored.get("n") or 0))

    @property
    def constant(self) -> str | None:
        """The row that always gives the commonest training answer, where there is one."""
        return constant_of(self.rows)

    @cached_property
    def matched(self) -> Way:
        """The way to read what is kept at the same gain: the first that compares two curves."""
        return leading(self.ways)

    @property
    def compared(self) -> list[Row]:
        """The finished recipes that may be told apart: those of several seeds.

        One seed says nothing about another training.
        """
        # Without an analysis nothing was scored.
        if self.analysis is None:
            return []
        return [row for row in self.recipes if row.done and self.analysis.compares(row.name)]

    @property
    def recipes(self) -> list[Row]:
        return [row for row in self.rows if row.role == Role.RECIPE]

    @property
    def tuned(self) -> list[Row]:
        """The recipes, and the models that were tuned elsewhere."""
        return [row for row in self.rows if row.role.is_tuned]

    @property
    def measured(self) -> list[Row]:
        """The models that were tuned elsewhere."""
        return [row for row in self.rows if row.role == Role.MEASURED]

    def track(self, name: Track) -> list[Row]:
        return [row for row in self.recipes if row.track == name]

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    def texts(self, row: str, runs: int | None = None) -> pd.DataFrame:
        """Return a row's final scores with prompts, outputs and targets, from the store.

        `runs`: of the first so many runs.
        """
        return read_texts(self._finished(row)[:runs], self.store, EvalKind.FINAL)

    def logs(self, row: str) -> Iterator[LogLine]:
        """Yield the logged steps of a row's finished runs, from the store."""
        for run in self._finished(row):
            yield from self.store.run(run["key"]).log()

    def _finished(self, name: str) -> list[RunEntry]:
        runs: list[RunEntry] = []
        for row in self.rows:
            if row.name == name:
                runs += row.finished
        return runs

    def estimate(self, quantity: str, row: str) -> Estimate:
        """Return a quantity of a row with its interval; unknown where nothing was scored."""
        if self.analysis is None:
            return Estimate()
        # Drawn once: an interval over thousands of draws is the slow part of a report.
        if (quantity, row) not in self.estimates:
            self.estimates[quantity, row] = self.analysis.estimate(quantity, row)
        return self.estimates[quantity, row]

    def difference(self, quantity: str, row: str, reference: str) -> Estimate:
        """Return a row minus a reference, paired item by item."""
        return self.analysis.difference(quantity, row, reference) if self.analysis else Estimate()

    def computed(self, make: Callable[[Summary], T]) -> T:
        """Return `make(self)`, computed at the first call: many need the same derived table."""
        # By the function itself, so that two tables of one name cannot be confused.
        if make not in self.made:
            self.made[make] = make(self)
        return self.made[make]

    @cached_property
    def gain_unit(self) -> str:
        """The unit of gain: points of a score, or hundredths of a bit per byte saved."""
        # Bits only if all of the domain is texts: a mean over both kinds would have no unit.
        measures = self.analysis.measures if self.analysis else pd.DataFrame()
        domain = measures.query("headline and group == 'domain'") if len(measures) else measures
        bits = len(domain) > 0 and (domain["metric"] == "bits_per_byte").all()
        return "1/100 bit per byte" if bits else "points"

    @property
    def in_per_cent(self) -> bool:
        """Whether shares of the base's general ability are shown.

        Shares of a small ability scatter; points do not.
        """
        return bool(self.analysis and self.analysis.ability >= READABLE)

    @property
    def why_points(self) -> str:
        """The reason why no share is shown."""
        # Either there is nothing to take a share of, or so little that a share would scatter.
        ability = self.analysis.ability if self.analysis else np.nan
        if not np.isfinite(ability):
            return "no family stands above chance, so there is no share of the base's ability"
        above = f"the base is {points(ability)} points above chance"
        return f"points only: {above}, of which a share says little"

    def parts(self, scope: Scope, measured: Measured = Measured.CHANGE) -> list[str]:
        """Return the families, channels, ... over which a general change is known.

        Of a gain: the tasks.
        """
        names = self.analysis.names if self.analysis else []
        parts = [name.part for name in names if name.measured is measured and name.scope is scope]
        return sorted(parts)

    @cached_property
    def areas(self) -> dict[Area, list[str]]:
        """Column group -> its families that enter the general change; empty for one group only."""
        # A family may be recorded and not counted: left out at chance, or seen in training.
        areas = areas_of(self.record)
        inside = [family for family in self.parts(Scope.FAMILY) if family in areas]
        families_of: dict[Area, list[str]] = {}
        for area in Area:
            families = [family for family in inside if areas[family] == area]
            if families:
                families_of[area] = families
        return families_of

    @property
    def areas_sentence(self) -> str:
        """Sentence on the column groups that enter the general change; "" for one group only.

        It says with how many families each does.
        """
        # One group needs no sentence: then the mean is over all families alike.
        parts = []
        for area, families in self.areas.items():
            parts.append(f"{len(families)} of {area.upper()} ({area.meaning})")
        if not parts:
            return ""
        total = sum(map(len, self.areas.values()))
        return f"ΔR and what is kept are means over {total} families: {', '.join(parts)}."

    def worst_family(self, row: str) -> str | None:
        """Return the family that lost most, in points of the chance-corrected score."""
        # A family without a number is not the worst: nothing is known of it.
        changes = {}
        for family in self.parts(Scope.FAMILY):
            change = self.estimate(change_of_family(family), row).value
            if np.isfinite(change):
                changes[family] = change
        return min(changes, key=lambda family: changes[family]) if changes else None

    @property
    def references(self) -> list[str]:
        """The rows of `REFERENCES` that finished, whatever their settings."""
        return references_of(self.rows)


def areas_of(record: Mapping[str, Any]) -> dict[str, Area]:
    """Return general family -> column group, as the comparison recorded it.

    Empty if all are of one group, or none is known.
    """
    # Comparisons of older versions recorded no column groups.
    by_family: dict[str, Area] = {}
    for suite in record.get("suites") or []:
        areas = suite.get("areas") or {}
        by_family |= {family: Area(area) for family, area in areas.items()}
    return by_family if len(set(by_family.values())) > 1 else {}
