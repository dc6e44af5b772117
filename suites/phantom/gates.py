"""What a comparison on the phantom must show: its world is known, so this is known too. Each demand is a `Gate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from harness.report.summary.rows import dig
from harness.report.summary.summary import Summary
from harness.stats.analysis import Estimate
from suites.phantom.repeated import Repeated

SEEDS = 5
"""Seeds of the comparison of methods; with fewer, intervals may be too wide."""
LONG = "20epochs"
"""Budget of the run that is trained far too long."""
HUGE = {"ewc": "ewc(strength=1000000.0)", "kl": "kl(beta=10000.0)"}
ZERO = {"ewc": "ewc(strength=0.0)", "kl": "kl(beta=0.0)"}


@dataclass(frozen=True)
class Gate:
    """One demand on the world, the model or the instrument."""

    name: str
    rule: str
    measured: str
    passed: bool


def at(recipe: str, rate: float) -> str:
    """The recipe at a learning rate."""
    body = recipe.removesuffix(")")
    return f"{body}{', ' if '(' in body else '('}lr={rate})"


def show(estimate: Estimate) -> str:
    """A number with its interval."""
    return f"{estimate.value:.1f} [{estimate.low:.1f}, {estimate.high:.1f}]"


def primary(summary: Summary, row: str, group: str) -> pd.DataFrame:
    """Final scores of a row on the primary metrics of a group of tasks."""
    scores = summary.scores
    return scores[(scores["row"] == row) & (scores["group"] == group) & scores["primary"].astype(bool)]


def domain_level(summary: Summary, row: str) -> float:
    """Domain score from 0 to 1: the mean over tasks."""
    return float(primary(summary, row, "domain").groupby("task")["score"].mean().mean())


def base_gates(summary: Summary) -> list[Gate]:
    """Is the base able, and none of its abilities beyond losing or learning?"""
    generated = primary(summary, "base", "general").query("channel == 'generation'")
    families = generated.groupby("family")["score"].mean()
    worst = ", ".join(f"{name} {score:.3f}" for name, score in families.sort_values().items())
    return [
        Gate("base able", "mean over families at least 0.85", f"{families.mean():.3f}", families.mean() >= 0.85),
        Gate("families within reach", "each from 0.6 to 0.99", worst, bool(families.between(0.6, 0.99).all())),
    ]


def forgetting_gates(summary: Summary, rate: float) -> list[Gate]:
    """Does plain fine-tuning forget, and do a low rate and mixing help as they must?"""
    sft, low, mix = (at(r, rate) for r in ("sft", "low_lr", "mix(ratio=0.15)"))
    score, change = domain_level(summary, sft), summary.estimate("change", sft)
    held, price = summary.estimate("change:held_out", sft), summary.difference("gain", low, sft)
    seen = {row: summary.estimate("change:seen", row).value for row in (sft, mix)}
    recovered = 1 - seen[mix] / seen[sft]
    by_seed = [_retention(summary, sft, seed) for seed in summary.row(sft).seeds]
    return [
        Gate(
            "domain learnt", f"plain fine-tuning at its best rate ({rate:g}) scores at least 0.9", f"{score:.3f}", score >= 0.9
        ),
        Gate("forgetting", "it loses 25 to 60 points", show(change), -60 <= change.value <= -25),
        Gate("forgetting held-out families", "they fall too", show(held), held.high < 0),
        Gate(
            "low rate",
            "loses at most 10 points",
            show(summary.estimate("change", low)),
            summary.estimate("change", low).value >= -10,
        ),
        Gate("price of a low rate", "a domain gain below plain fine-tuning's", show(price), price.high < 0),
        Gate(
            "mixing",
            "15 % brings back at least 60 % of the loss on seen families",
            f"{100 * recovered:.0f} %",
            recovered >= 0.6,
        ),
        Gate(
            "spread over seeds",
            f"sd of plain fine-tuning's retention over {len(by_seed)} seeds at most 4 points",
            f"{np.std(by_seed, ddof=1):.1f} ({', '.join(f'{r:.1f}' for r in by_seed)})",
            float(np.std(by_seed, ddof=1)) <= 4,
        ),
    ]


def _retention(summary: Summary, row: str, seed: float) -> float:
    """Retention of one seed, per cent: a ratio of means over families of tasks that count, chance-corrected."""
    analysis: Any = summary.analysis
    kept = analysis.measures.query("kept").set_index(["task", "metric"])
    own = primary(summary, row, "general").query("seed == @seed").groupby(["task", "metric"])["score"].mean()
    table = kept.join(own.rename("tuned"), how="inner")
    after, before = ((table[name] - table["chance"]) / (1 - table["chance"]) for name in ("tuned", "base"))
    kept, able = (part.groupby(table["family"]).mean().mean() for part in (after, before))
    return float(100 * kept / able)


def limit_gates(summary: Summary, rate: float) -> list[Gate]:
    """Where the truth is exact: the ends of the scales."""
    gates = []
    for name, recipe in HUGE.items():
        moved = summary.estimate("change", at(recipe, rate))
        gained = summary.estimate("gain", at(recipe, rate))
        gates.append(
            Gate(
                f"{name} without end",
                "a huge weight gives the base back, to 1 point",
                f"change {moved.value:.2f}, gain {gained.value:.2f}",
                max(abs(moved.value), abs(gained.value)) <= 1,
            )
        )
    plain = _weights(summary, at("sft", rate))
    for name, recipe in ZERO.items():
        same = _weights(summary, at(recipe, rate)) == plain
        gates.append(
            Gate(f"{name} at weight 0", "the weights of plain fine-tuning, bit for bit", "equal" if same else "differ", same)
        )
    ends = _weights(summary, at("sft", rate) + "+wise(alpha=0.0)") == _weights(summary, "base")
    gates.append(Gate("interpolation", "ends exactly at the base", "equal" if ends else "differs", ends))
    control = next(row.name for row in summary.rows if row.role == "control")
    same = _scores(summary, control).equals(_scores(summary, "base"))
    gates.append(Gate("zero-budget control", "reads exactly 0", "0 on every item" if same else "differs", same))
    return gates


def _weights(summary: Summary, row: str) -> Any:
    return dig(summary.row(row).finished[0], "run", "happened", "weights_hash")


def _scores(summary: Summary, row: str) -> pd.Series:
    table = summary.scores[summary.scores["row"] == row]
    return table.set_index(["task", "metric", "item"])["score"].sort_index()


def drift_gate(summaries: Sequence[Summary]) -> Gate:
    """Does the KL to the base tell how much is forgotten? Over all recipes of all comparisons; the domain's inputs."""
    points = []
    for summary in summaries:
        for row in summary.recipes:
            if row.done:
                kl = summary.estimate("level:kl_to_base:domain", row.name).value
                points.append((kl, summary.estimate("change", row.name).value))
    kl, change = np.array(points).T
    rank = float(np.corrcoef(rankdata(kl), rankdata(-change))[0, 1])
    return Gate("KL and forgetting", "Spearman at least 0.8", f"{rank:.2f} over {len(points)} rows", rank >= 0.8)


def repetition_gate(summary: Summary, rate: float) -> Gate:
    """Training far too long must show in the texts."""
    rise = summary.difference("level:rep3_word:general", at("sft", rate), "base")
    text = f"{100 * rise.value:.2f} points [{100 * rise.low:.2f}, {100 * rise.high:.2f}]"
    return Gate("repetition", f"plain fine-tuning over {LONG} raises rep-3, its interval above 0", text, rise.low > 0)


def statistics_gates(repeated: Repeated) -> list[Gate]:
    """Do the intervals and tests keep what they promise? Below five seeds they may be too wide, and never too narrow."""
    if repeated.seeds == 1:
        return one_seed_gates(repeated)
    few = repeated.seeds < SEEDS
    least, most = (0.0, 1.0) if few else (0.035, 0.97)
    rules = ("at most 6.5 %", "at least 93 %") if few else ("3.5 to 6.5 %", "93 to 97 %")
    gates = [
        Gate(
            f"A/A false alarms, {repeated.seeds} seeds a side",
            f"{rules[0]} at the 5 % level",
            f"{100 * share:.1f} % of {repeated.comparisons:,} ({name})",
            least <= share <= 0.065,
        )
        for name, share in repeated.alarms.items()
    ]
    gates += [
        Gate(
            f"coverage, {repeated.seeds} seeds",
            f"95 % intervals cover in {rules[1]}",
            f"{100 * share:.1f} % of {repeated.comparisons:,} ({name}); t intervals over the seeds' own values"
            f" {100 * repeated.reference[name]:.1f} %",
            0.93 <= share <= most,
        )
        for name, share in repeated.coverage.items()
    ]
    return gates


def one_seed_gates(repeated: Repeated) -> list[Gate]:
    """Is nothing claimed of one seed a side? How often intervals over items only exclude 0 stands beside: that is why."""
    return [
        Gate(
            "A/A, one seed a side",
            "no difference is claimed",
            f"{100 * repeated.alarms[name]:.1f} % of {repeated.comparisons:,} ({name});"
            f" intervals over items only exclude 0 in {100 * apart:.1f} %",
            repeated.alarms[name] == 0,
        )
        for name, apart in repeated.apart.items()
    ]
