"""What was spent, and whether the choice of a recipe holds under the other meter: equal seconds instead of equal FLOPs.

A comparison gives every recipe the same of one meter. At the smallest amount of the other meter that any recipe spent, each
recipe's curve over its budget is read off, linear between scored points; spending is taken to be even over the budget. A run
that had been planned for that amount would have ended its learning rate's decay there, so this is what can be told without
training again, not what another comparison would find.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from harness.report.summary.curves import point_name
from harness.report.summary.format import number, share, si
from harness.report.summary.recommend import QUANTITIES, Advice, advice_of, advise, candidates, limits_of
from harness.report.summary.rows import Row
from harness.report.summary.rule import Costs
from harness.report.summary.summary import Summary
from harness.stats.analysis import Analysis, Estimate

NAMES = {"flops": "FLOPs", "seconds": "device-seconds", "tokens": "tokens", "steps": "steps"}


@dataclass(frozen=True)
class Reading:
    """One recipe at the smallest common amount of the other meter."""

    row: Row
    spent: float
    """What it spent of that meter in all."""
    fraction: float
    """Part of its budget at which it had spent the common amount."""
    gain: Estimate
    change: Estimate


@dataclass(frozen=True)
class OtherMeter:
    """What the rule takes where recipes spent the same of the other meter."""

    meter: str
    sentence: str
    """Whether the conclusion holds, or why that cannot be told."""
    amount: float = np.nan
    readings: tuple[Reading, ...] = ()
    advice: Advice | None = None


def meter_of(summary: Summary) -> str:
    """Return the binding meter: of the plan, else of the runs."""
    plan = (summary.record.get("plan") or {}).get("meter")
    # Older records do not name the meter of the plan; their runs do.
    if plan:
        return str(plan)
    for row in summary.recipes:
        for run in row.finished:
            if ledger := run.get("ledger"):
                return str(ledger.get("meter"))
    return "flops"


def budget_line(summary: Summary) -> str:
    """`equal FLOPs (3epochs, 3.95 T each); 2.3 to 4.1 epochs; 27 to 49 device-seconds`; nothing where no recipe ended."""
    rows = [row for row in summary.recipes if row.done]
    if not rows:
        return ""

    # The binding meter is equal for all; the others have a range.
    meter = meter_of(summary)
    budget = (summary.record.get("plan") or {}).get("budget")
    each = _range([row.cost("ledger", meter) for row in rows], "each", si)
    amounts = ", ".join(part for part in (str(budget or ""), each) if part)
    parts = [f"equal {NAMES.get(meter, meter)}" + (f" ({amounts})" if amounts else "")]
    parts.append(_range([row.cost("run", "happened", "epochs") for row in rows], "epochs"))
    if meter != "flops":
        parts.append(_range([row.cost("ledger", "flops") for row in rows], "FLOPs", si))
    if meter != "seconds":
        parts.append(_range([row.cost("ledger", "seconds") for row in rows], "device-seconds"))
    return "; ".join(part for part in parts if part)


def _range(values: list[float], unit: str, show: Callable[[float], str] = lambda value: number(value, 2)) -> str:
    # Rows that failed have no costs.
    finite = [value for value in values if np.isfinite(value)]
    if not finite:
        return ""
    low = show(min(finite))
    high = show(max(finite))
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def other_meter(summary: Summary) -> OtherMeter:
    """Return the rule's choice at equal amounts of the other meter, against its choice in the table."""
    meter = "flops" if meter_of(summary) == "seconds" else "seconds"
    name = NAMES[meter]
    rows = candidates(summary)
    spent = {row.name: row.cost("ledger", meter) for row in rows}
    curve = summary.curves.spent
    chosen = summary.computed(advise).row

    # Nothing to compare, or nothing that could change.
    if len(rows) < 2 or chosen is None:
        return OtherMeter(meter, "")
    if curve is None or not all(_points(curve, row.name) for row in rows):
        return OtherMeter(meter, f"Whether this holds at equal {name} cannot be told: recipes have no curve over the budget.")
    if not all(np.isfinite(value) and value > 0 for value in spent.values()):
        return OtherMeter(meter, f"Whether this holds at equal {name} cannot be told: these were not measured.")

    # Each recipe where it had spent what the cheapest spent in all, and at its end, on the same items of the curve.
    amount = min(spent.values())
    fractions = {row.name: amount / spent[row.name] for row in rows}
    early = read_at(curve, fractions)
    late = read_at(curve, dict.fromkeys(fractions, 1.0))

    # All cost the same then, so that limits of cost say nothing.
    names = list(fractions)
    same = Costs(np.full(len(names), amount), np.full(len(names), np.nan))
    limits = replace(limits_of(summary), family=None, seconds=None, memory=None)
    then = advice_of(early, names, same, limits)
    now = advice_of(late, names, same, limits)
    readings = tuple(
        Reading(row, spent[row.name], fractions[row.name], early.estimate("gain", row.name), early.estimate("change", row.name))
        for row in rows
    )
    return OtherMeter(meter, _sentence(chosen, then, now, f"{si(amount).strip()} {name}", early), amount, readings, then)


def _sentence(chosen: str, then: Advice, now: Advice, amount: str, early: Analysis) -> str:
    n = max(early.estimate("gain", chosen).n + early.estimate("change", chosen).n, 0)
    where = f"at equal cost ({amount} each, read off the curves on {n:,} items)"
    if now.row != chosen:
        reason = f"on these items the rule does not take {chosen} at the full budget either"
        return f"Whether this holds {where} cannot be told: {reason}."
    if then.row == chosen:
        return f"It holds {where}: the rule takes {chosen} there too, in {share(then.again)} of joint draws."
    other = f"takes {then.row} instead, in {share(then.again)} of joint draws" if then.row else "takes no recipe"
    return f"It does not hold {where}: there the rule {other}."


def _points(curve: Analysis, row: str) -> list[float]:
    """Return fractions of the budget at which a row was scored."""
    # The name of a point holds the fraction, as `point_name` writes it.
    begin = point_name(row, 0.0).rpartition("@")[0]
    return sorted(float(name.rpartition("@")[2]) for name in curve.rows if name.startswith(f"{begin}@"))


def read_at(curve: Analysis, fractions: dict[str, float]) -> Analysis:
    """Return an analysis of the rows at these fractions of their budgets: columns that are linear between those of the
    curve.
    """
    before = [0]
    after = [0]
    weights = [0.0]
    for row, fraction in fractions.items():
        # Between the two scored points around the fraction; the base is the point at 0, and the first column.
        points = [0.0, *_points(curve, row)]
        number_after = min(int(np.searchsorted(points, fraction)), len(points) - 1)
        low = points[number_after - 1]
        high = points[number_after]
        before.append(curve.rows.index(point_name(row, low)) if low else 0)
        after.append(curve.rows.index(point_name(row, high)) if high else 0)
        weights.append(min(1.0, (fraction - low) / (high - low)))
    part = np.array(weights)

    def between(values: np.ndarray) -> np.ndarray:
        return (1 - part) * values[..., before] + part * values[..., after]

    # An analysis like the table's, so that the same rule can be asked of it.
    names = [curve.rows[0], *fractions]
    quantities = [name for name in QUANTITIES if name in curve.point]
    return replace(
        curve,
        rows=names,
        seeds={name: curve.seeds[curve.rows[column]] for name, column in zip(names, after, strict=True)},
        missing={},
        point={name: between(curve.point[name]) for name in quantities},
        by_seed={name: between(curve.by_seed[name]) for name in quantities},
        replicates={name: between(curve.replicates[name]) for name in quantities},
        item_draws={name: between(curve.item_draws[name]) for name in quantities},
        counts={name: curve.counts[name][after] for name in quantities},
    )
