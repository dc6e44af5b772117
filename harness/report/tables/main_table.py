"""The table of a comparison, for people (Markdown, LaTeX) and for machines (CSV)."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd

from harness.report.summary.contrasts import contrast, standings_of
from harness.report.summary.format import MISSING, holm_value, number, points, si, with_interval
from harness.report.summary.recommend import advise
from harness.report.summary.rows import Row, share_names
from harness.report.summary.summary import Summary
from harness.report.tables.compliance import compliance, compliance_table
from harness.stats.analysis import Estimate
from harness.stats.frontier import Rank, Standing
from harness.stats.quantity_name import Measured, Scope, change_of_area, change_of_family, level_of, name_of
from harness.stats.tradeoffs import Tradeoff
from harness.visible import markdown_text
from harness.vocabulary import Role

QUALITY = ("rep3_word", "rep3_char", "rep3", "kl_to_base", "no_stop")
PARTIAL = ("rep3_word",)
"""Of these the share of answers that are long enough to have one stands beside."""
GROUPS = {"general": "general", "held_out": "held out", "domain": "domain"}
"""Last part of a level's name -> what it is called; `general` is read on texts of the pool where it is drift."""
POINTS_ONLY = "points only"
"""Stands where the base is too weak for a share of its ability to say anything."""
GAINS_LESS = "gains less"
"""Stands where a curve never reaches the matched gain."""
SCOPES = {"": Scope.WHOLE, " seen": Scope.SEEN, " held out": Scope.HELD_OUT}


def full_table(summary: Summary) -> pd.DataFrame:
    """Return one line a row, plain numbers, intervals in columns of their own: table.csv."""
    return pd.DataFrame([_numbers(summary, row) for row in summary.rows])


def _numbers(summary: Summary, row: Row) -> dict[str, object]:
    line: dict[str, object] = {"row": row.name, "role": row.role, "track": row.track, "status": row.status}
    # The headline numbers, each with its interval.
    for part in (Scope.WHOLE, Scope.FORM, Scope.KNOWLEDGE):
        line |= _spread(f"gain {part}".rstrip(), summary.estimate(name_of(Measured.GAIN, part), row.name))
    for domain, gain in domain_gains(summary, row).items():
        line |= _spread(f"gain {domain}", gain)
    for kind in (Measured.CHANGE, Measured.RETENTION):
        for name, scope in SCOPES.items():
            line |= _spread(f"{kind}{name}", summary.estimate(name_of(kind, scope), row.name))
    for area in summary.areas:
        line |= _spread(f"change {area}", summary.estimate(change_of_area(area), row.name))
    line["base above chance"] = summary.analysis.ability if summary.analysis else math.nan
    # What could have been seen at all, and the family that lost most.
    change = summary.estimate("change", row.name)
    line["mde"] = change.detectable
    worst = summary.worst_family(row.name) if row.done else None
    line["worst family"] = worst
    line |= _spread("worst family change", summary.estimate(change_of_family(worst or ""), row.name))
    line |= _claims(summary, row.name)
    line |= {name: estimate.value for name, estimate in quality(summary, row.name).items()}
    line |= _spread("compliance", compliance(summary, row.name)) if len(summary.computed(compliance_table)) else {}
    for scale in summary.scales:
        line |= _spread(f"people {scale}", summary.rating(row.name, scale))
    # What it cost, and how much was asked.
    line |= costs(row)
    line["n domain"], line["n general"] = summary.estimate("gain", row.name).n, change.n
    line["items missing"] = summary.analysis.missing.get(row.name) if summary.analysis and row.done else None
    line["seeds"] = len(row.seeds)
    line["tuning"] = tuning(summary, row)
    trials = trials_of(summary, row)
    line |= {"trials": len(trials), "tuning flops": trials["flops"].sum(), "tuning device seconds": trials["seconds"].sum()}
    line["keys"] = " ".join(row.keys)
    return line


def domain_gains(summary: Summary, row: Row) -> dict[str, Estimate]:
    """Return each domain's own gain, where a plan trains on several in turn."""
    return summary.stages.gains(row.name) if summary.stages else {}


def _spread(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name} low": estimate.low, f"{name} high": estimate.high}


def _claims(summary: Summary, row: str) -> dict[str, object]:
    line: dict[str, object] = {}
    for reference in summary.references:
        difference = contrast(summary, row, reference)
        change = difference["change"] if difference is not None else Estimate()
        line |= _spread(f"change vs {reference}", change) | {f"mde vs {reference}": change.detectable}
        for name in ("p", "holm p"):
            line[f"{name} vs {reference}"] = difference[name.removesuffix(" p")] if difference is not None else math.nan
        line[f"least p vs {reference}"] = change.least_p
    # In how many draws the rule would choose this row.
    shares = summary.computed(advise).shares
    line["chosen probability"] = shares.get(row, 0.0) if shares else math.nan
    return line | _standing(summary.computed(standings_of).get(row)) | _matched(summary, row)


def _standing(standing: Standing | None) -> dict[str, float]:
    """Return the probabilities of the front and of ranks, and what the row adds to the hypervolume."""
    line: dict[str, float] = {"pareto probability": standing.pareto.first if standing else math.nan}
    for name in ("pareto", "gain", "change"):
        rank = getattr(standing, name) if standing else Rank()
        line |= {f"{name} rank": rank.middle, f"{name} rank low": rank.low, f"{name} rank high": rank.high}
        line |= {f"{name} first probability": rank.first} if name != "pareto" else {}
    return line | _spread("hypervolume added", standing.added if standing else Estimate())


def _matched(summary: Summary, row: str) -> dict[str, object]:
    """Return what is kept at the same gain by the way that the report leads with, and on the line from the base."""
    way, line = summary.matched, summary.curves.matched_path
    tradeoff = way.of(row)
    numbers: dict[str, object] = {"matched gain": way.matched.target, "matched way": way.description or None}
    if tradeoff is None:
        tradeoff = Tradeoff(math.nan)
    numbers |= _spread("change at matched gain", tradeoff.change) | _spread("retention at matched gain", tradeoff.kept)
    numbers |= _spread("gain at matched loss", tradeoff.gain) | _spread("mean change to matched gain", tradeoff.area)
    return numbers | _spread("retention at matched gain on the line", line.kept(row))


def kept_cell(summary: Summary, row: Row) -> str:
    """Return what a row kept in per cent, as it may be shown: with its interval, as points only, or a dash."""
    kept, change = summary.estimate("retention", row.name), summary.estimate("change", row.name)
    return with_interval(kept) if summary.in_per_cent or not change.known else POINTS_ONLY


def matched_head(summary: Summary) -> str:
    """Return the heading of the column of what is kept at the same gain; empty where there is no such reading."""
    way = summary.matched
    return f"ΔR at gain {points(way.matched.target)}" if way.name else ""


def matched_cell(summary: Summary, row: Row) -> str:
    """Return the general change where a row's curve reaches the matched gain; in words where it never does."""
    tradeoff = summary.matched.of(row.name)
    if tradeoff is None:
        return MISSING
    return with_interval(tradeoff.change) if tradeoff.change.known else GAINS_LESS


def quality(summary: Summary, row: str) -> dict[str, Estimate]:
    """Return repetition, drift and missing stops on general prompts first, domain prompts last, where measured.

    The distance from the base on general texts is on texts like the pool's; that on texts of held-out families stands beside.
    """
    levels = {}
    for metric in QUALITY:
        for group, called in GROUPS.items():
            name = level_of(metric, group)
            if summary.analysis and name in summary.analysis.point:
                levels[f"{metric} {called}"] = summary.estimate(name, row)
                if metric in PARTIAL:
                    levels[f"{metric} {called} share"] = Estimate(summary.analysis.share(name, row))
    return levels


def costs(row: Row) -> dict[str, float]:
    """Return what the row's training cost, means over its finished seeds."""
    ledger, happened = ("ledger",), ("run", "happened")
    line = {
        "flops": row.cost(*ledger, "flops"),
        "device seconds": row.cost(*ledger, "seconds"),
        "steps": row.cost(*ledger, "steps"),
        "epochs": row.cost(*happened, "epochs"),
        "peak memory bytes": row.cost(*happened, "peak_memory_bytes"),
        "loss variance": row.cost(*happened, "stability", "loss_variance"),
        "gradient spikes": row.cost(*happened, "stability", "gradient_spikes"),
    }
    return line | {f"tokens {name}": value for name, value in row.shares("ledger", "tokens").items()}


def tuning(summary: Summary, row: Row) -> str:
    """Return `untuned`, or how many trials a recipe had (each costs one budget B) and what was selected."""
    trials = trials_of(summary, row)
    if row.role == Role.MEASURED:
        return "budget unknown"
    if row.role != Role.RECIPE:
        return MISSING
    chosen = trials.loc[trials["selected"], "recipe"]
    price = f"{len(trials)} trials (+{len(trials)} B)"
    return f"{price}: {chosen.iloc[0]}" if len(chosen) else f"untuned: none of {price} ended" if len(trials) else "untuned"


def trials_of(summary: Summary, row: Row) -> pd.DataFrame:
    return summary.trials[summary.trials["row"] == row.name]


def reading_table(summary: Summary) -> pd.DataFrame:
    """Return the same, formatted for reading: table.md and table.tex."""
    classes = sorted(share_names(summary.rows, "ledger", "tokens"))
    lines = [_reading(summary, row, classes) for row in summary.rows]
    return pd.DataFrame(lines).fillna(MISSING)


def _reading(summary: Summary, row: Row, classes: list[str]) -> dict[str, str]:
    change, cost = summary.estimate("change", row.name), costs(row)
    worst = summary.worst_family(row.name) if row.done else None
    # In the order of columns that a reader needs: the two headline numbers, then what explains them.
    line = {"row": row.name, "track": row.track if row.role.is_tuned else MISSING, "status": row.status}
    line[f"gain ({summary.gain_unit})"] = with_interval(summary.estimate("gain", row.name))
    line["ΔR (points)"], line["retention (%)"] = with_interval(change), kept_cell(summary, row)
    if head := matched_head(summary):
        line[head] = matched_cell(summary, row)
    if summary.constant:
        knowledge = summary.estimate(name_of(Measured.GAIN, Scope.KNOWLEDGE), row.name)
        line["gain above a constant answer"] = with_interval(knowledge)
    line |= {f"gain, {domain} (points)": with_interval(gain) for domain, gain in domain_gains(summary, row).items()}
    line["MDE"] = points(change.detectable)
    for area in summary.areas:
        line[f"{area.upper()} (points)"] = with_interval(summary.estimate(change_of_area(area), row.name))
    for scope in (Scope.SEEN, Scope.HELD_OUT):
        kept = summary.estimate(name_of(Measured.RETENTION, scope), row.name)
        title = f"retention {scope.value.replace('_', ' ')} (%)"
        line[title] = with_interval(kept) if summary.in_per_cent or not change.known else POINTS_ONLY
    worst_change = summary.estimate(change_of_family(worst or ""), row.name)
    line["worst family (points)"] = f"{worst} {with_interval(worst_change)}" if worst else MISSING
    for reference in summary.references:
        difference = contrast(summary, row.name, reference)
        line[f"Holm p, ΔR vs {reference}"] = holm(difference)
    line |= {name.replace("_", " "): number(e.value) for name, e in quality(summary, row.name).items()}
    if len(summary.computed(compliance_table)):
        kept = compliance(summary, row.name)
        line["rules kept (%)"] = with_interval(Estimate(100 * kept.value, 100 * kept.low, 100 * kept.high, n=kept.n))
    if summary.scales:
        line["people (1-5)"] = with_interval(summary.rating(row.name, summary.scales[-1]))
    # Costs stand last: they are read once the scores are believed.
    line |= {"FLOPs": si(cost["flops"]), "device-seconds": number(cost["device seconds"])}
    line |= {f"{name} tokens": si(cost.get(f"tokens {name}")) for name in classes}
    line |= {"steps": number(cost["steps"]), "epochs": number(cost["epochs"]), "peak memory": memory(row)}
    line["loss variance"], line["gradient spikes"] = number(cost["loss variance"]), number(cost["gradient spikes"])
    gain = summary.estimate("gain", row.name)
    line["n (domain, general)"] = f"{gain.n:,}, {change.n:,}" if change.known or gain.known else MISSING
    return line | {"seeds": str(len(row.seeds)) if row.done else MISSING, "tuning": tuning(summary, row)}


def holm(difference: pd.Series | None) -> str:
    """Return a contrast's p-value after Holm's correction, as the table has it."""
    return MISSING if difference is None else holm_value(difference["holm"], difference["change"], difference["pairs"])


def memory(row: Row) -> str:
    size = row.cost("run", "happened", "peak_memory_bytes")
    return f"{si(size)}B" if math.isfinite(size) else MISSING


def records(table: pd.DataFrame) -> str:
    """Return JSON, a record a row; what is not known is null."""
    lines = [{key: _known(value) for key, value in line.items()} for line in table.to_dict("records")]
    return json.dumps(lines, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _known(value: Any) -> Any:
    """Return a plain Python value: NaN and the like as None."""
    if value is None or value != value or value in (math.inf, -math.inf):
        return None
    return value.item() if hasattr(value, "item") else value


def markdown(table: pd.DataFrame) -> str:
    """Return a pipe table."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(markdown_text(cell) for cell in cells) + " |"

    lines = [line(list(table.columns)), line(["---"] * len(table.columns))]
    return "\n".join([*lines, *(line(list(row)) for row in table.itertuples(index=False))]) + "\n"


def latex(table: pd.DataFrame) -> str:
    """Return a booktabs table; needs `\\usepackage{booktabs}`."""
    plain = table.rename(columns=latex_text).map(latex_text)
    return plain.to_latex(index=False, escape=False, column_format="ll" + "r" * (len(table.columns) - 2))


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "Δ": r"$\Delta$", "—": "---", "<": "$<$",
    "\n": " ", ">": "$>$",
}  # fmt: skip


def latex_text(text: object) -> str:
    """Return the text with nothing in it that LaTeX would act on."""
    return "".join(_TEX.get(character, character) for character in str(text))
