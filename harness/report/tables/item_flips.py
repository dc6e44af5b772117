"""Item by item against the base: what each recipe forgot and learned, corrected for guessing; what no recipe kept.

Of items scored right or wrong (general tasks that enter retention, first seed) n10 were right in the base only, n01 in the
tuned model only, n00 in neither. Forgotten n10 / n and learned n01 / n mislead where answers are guessed: of k choices a
guess is right once in k. If a model either knows an item or guesses, and guesses are independent of each other,

    f = k / (k - 1) (n10 - n00 / (k - 1)) / n        g = k / (k - 1) (n01 - n00 / (k - 1)) / n

are the shares of items that it came to not know, and to know; below 0 they are 0. Where guesses are alike in both models (they
often are) too much is taken away, so the raw shares stand beside. Without choices nothing is guessed and both agree.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.report.summary.format import interval_columns
from harness.report.summary.item_tables import right_or_wrong
from harness.report.summary.summary import Summary
from harness.stats.analysis import estimate_of
from harness.stats.resample import draws, ratio

KEYS = ["task", "metric", "item"]
PROMPT = 300
"""Characters of a prompt in the file; the store has all."""
COUNTS = ("n11", "n10", "n01", "n00")
MEASURES = ("forgotten", "learned", "net", "churn", "forgotten corrected", "learned corrected")
COLUMNS = ["row", "scope", "n", *COUNTS, *interval_columns(MEASURES)]


def item_table(summary: Summary) -> pd.DataFrame:
    """Return one line an item, a column for each row's score: items.csv.

    `lost_by`: recipes that lose what the base has right.
    """
    wide = summary.computed(right_or_wrong)
    recipes = _recipes(summary)
    if summary.base not in wide or not recipes:
        return pd.DataFrame()
    items = _items(summary)
    items["prompt"] = items["prompt"].str.slice(0, PROMPT)

    # An item is lost by a recipe that has it wrong where the base has it right.
    lost = wide[recipes].lt(wide[summary.base], axis=0).sum(axis=1)
    table = items.join(wide).assign(lost_by=lost)
    return table.sort_values(["lost_by", *KEYS], ascending=[False, True, True, True]).reset_index()


def most_forgotten(summary: Summary) -> pd.DataFrame:
    """Return the items that the base has right and every recipe has wrong, where there are two recipes or more."""
    table = summary.computed(item_table)
    recipes = _recipes(summary)
    if table.empty or len(recipes) < 2:
        return table.head(0)
    return table[table["lost_by"] == len(recipes)].sort_values(["family", *KEYS])


def flip_table(summary: Summary) -> pd.DataFrame:
    """Return one line a recipe and scope (`all`, `channel:<name>`, `family:<name>`), shares in %: flips.csv."""
    wide = summary.computed(right_or_wrong)
    recipes = _recipes(summary)
    if summary.base not in wide or not recipes:
        return pd.DataFrame(columns=COLUMNS)

    # Items of one cluster are drawn together; clusters of two families are never the same.
    items = _items(summary).reindex(wide.index)
    counts = draws((items["family"] + "\0" + items["cluster"]).to_list())

    # Over all items, and within each channel and family.
    scopes = {"all": np.ones(len(items), bool)}
    for kind in ("channel", "family"):
        scopes |= {f"{kind}:{name}": (items[kind] == name).to_numpy(bool) for name in sorted(items[kind].unique())}

    # (measures, n, rows): what each item brings to each number.
    base = wide[summary.base].to_numpy(float)
    chance = items["chance"].to_numpy(float)
    flips = [item_flips(base, wide[row].to_numpy(float), chance) for row in recipes]
    table = np.stack([[values[name] for name in (*COUNTS, *MEASURES)] for values in flips], axis=-1)

    lines = []
    for scope, inside in scopes.items():
        part = table[:, inside]
        scored = np.isfinite(part[0]).astype(float)
        replicates = np.stack([ratio(100 * values, scored, counts[:, inside]) for values in part[len(COUNTS) :]])
        for number, row in enumerate(recipes):
            if scored[:, number].any():
                lines.append({"row": row, "scope": scope} | _line(part[..., number], replicates[..., number]))
    return pd.DataFrame(lines, columns=COLUMNS).sort_values("row", key=lambda rows: rows.map(recipes.index), kind="stable")


def item_flips(base: np.ndarray, tuned: np.ndarray, chance: np.ndarray) -> dict[str, np.ndarray]:
    """Return what each item brings to every count and share, (n,); their means are the shares.

    NaN where either score is missing.
    """
    # An item that one side lacks says nothing of a flip.
    missing = np.isnan(base) | np.isnan(tuned)
    names = {"n11": (1, 1), "n10": (1, 0), "n01": (0, 1), "n00": (0, 0)}
    flips = {name: np.where(missing, np.nan, (base == a) & (tuned == b)) for name, (a, b) in names.items()}
    flips |= {"forgotten": flips["n10"], "learned": flips["n01"]}
    flips |= {"net": flips["n01"] - flips["n10"], "churn": flips["n01"] + flips["n10"]}

    # 1 / (k - 1): nothing where there are no choices.
    guessed = chance / (1 - chance)
    flips["forgotten corrected"] = (flips["n10"] - guessed * flips["n00"]) / (1 - chance)
    flips["learned corrected"] = (flips["n01"] - guessed * flips["n00"]) / (1 - chance)
    return flips


def _line(values: np.ndarray, replicates: np.ndarray) -> dict[str, float]:
    """Counts and shares of one recipe: from (measures, n) values of items, and (shares, B) draws."""
    n = int(np.isfinite(values[0]).sum())
    line: dict[str, float] = {"n": n}
    line |= {name: int(np.nansum(of_items)) for name, of_items in zip(COUNTS, values, strict=False)}
    for name, of_items, drawn in zip(MEASURES, values[len(COUNTS) :], replicates, strict=True):
        share = estimate_of(100 * float(np.nanmean(of_items)), np.array([]), drawn, n)

        # The correction may take more away than there is.
        least = 0.0 if name.endswith("corrected") else -np.inf
        for end, value in (("", share.value), (" low", share.low), (" high", share.high)):
            line[f"{name}{end}"] = max(least, value)
    return line


def _recipes(summary: Summary) -> list[str]:
    return [row.name for row in summary.tuned if row.done and row.name in summary.computed(right_or_wrong)]


def _items(summary: Summary) -> pd.DataFrame:
    """Return what is known of each item of `right_or_wrong`, texts as the base was asked them."""
    table = summary.texts(summary.base).drop_duplicates(KEYS).set_index(KEYS)
    table = table.loc[
        table.index.isin(summary.computed(right_or_wrong).index), ["family", "channel", "cluster", "chance", "prompt", "target"]
    ]
    return table.assign(chance=table["chance"].fillna(0.0), cluster=table["cluster"].fillna("")).astype({"chance": float})
