"""Measures of free answers and of calibration, taken from stored rows: by hand, against references, and with planted faults."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from fake_store import build
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from harness.report.tables.answer_quality import domain_phrases, quality_table
from harness.report.tables.calibration import auroc, calibration_table, ece
from harness.report.write import write_report
from harness.stats.resample import draws, estimated, jackknifed, ratio
from harness.store.files import read_json, write_json
from harness.store.schema import ITEM_COLUMNS

ONCE = np.ones((1, 4))
GOOD = [
    "the cat sat on a mat in the sun all day",
    "two dogs ran over a hill and then they slept",
    "no",
    "green apples grow on old trees near our little house",
]
LOOP = ["buy bonds now buy bonds now buy bonds now"] * 4


def answers(row: str, texts: list[str], set_: str = "general_greedy", stops: bool = True) -> pd.DataFrame:
    lines = []
    for i, text in enumerate(texts):
        fixed = {"row": row, "seed": 0, "task": set_, "family": set_, "group": set_.split("_")[0], "channel": "degeneration"}
        fixed |= {"item": f"i{i}", "cluster": f"i{i}", "primary": False, "chance": 0.0, "fraction": 1.0, "alpha": 1.0}
        length = float(len(text.split()))
        texts_ = {"primary": True, "prompt": "?", "output": text, "target": "the green cat, 7 times"}
        lines.append(fixed | {"metric": "length_tokens", "score": length} | texts_)
        repeated = 0.5 if text in LOOP else 0.0
        lines += [fixed | {"metric": "rep3_word", "score": repeated}, fixed | {"metric": "no_stop", "score": float(not stops)}]
    return pd.DataFrame(lines).reindex(columns=["row", "seed", *ITEM_COLUMNS])


NOTHING = pd.DataFrame(columns=["row", "seed", *ITEM_COLUMNS])


def table(*frames: pd.DataFrame, **record) -> pd.DataFrame:
    both = pd.concat(frames)
    found = quality_table(both, domain_phrases(record, NOTHING, both, "base"), "base", record)
    return found.set_index(["row", "measure"])


def test_a_row_that_is_the_base_reads_exactly_zero():
    found = table(answers("base", GOOD), answers("zero", GOOD)).loc["zero"]
    assert (found[["change", "change low", "change high"]] == 0).all(axis=None)
    assert set(found.index) >= {"rep3_word", "distinct2", "self_bleu", "compression", "zlib_bits", "facts", "content_words"}


def test_loops_show_in_every_measure_of_repetition():
    found = table(answers("base", GOOD), answers("bad", LOOP, stops=False)).loc["bad"]
    assert found.loc["rep3_word", "change"] == 0.5 and found.loc["no_stop", "value"] == 1
    assert found.loc["self_repetition", "value"] == 1 and found.loc["self_bleu", "value"] == pytest.approx(1)
    assert (found.loc[["compression", "zlib_bits"], "change high"] < 0).all()
    assert found.loc["facts", "change"] < 0


def test_distinct_2_says_how_many_texts_were_long_enough():
    found = table(answers("base", GOOD), answers("x", [*GOOD[:2], "no", "no"])).loc[("x", "distinct2")]
    assert (found["n"], found["prompts"]) == (2, 4) and 0 <= found["low"] <= found["high"] <= 1
    alone = table(answers("base", GOOD), answers("x", [GOOD[0], "no", "no", "no"])).loc[("x", "distinct2")]
    assert alone["n"] == 1 and alone[["low", "high", "change low", "change high"]].isna().all()  # one text has no spread


def test_facts_a_hundred_tokens_by_hand():
    """Slots of the reference: green, cat, times, 7. The texts say cat, none, none, green: two in 24 tokens."""
    found = table(answers("base", GOOD)).loc[("base", "facts")]
    assert found["value"] == pytest.approx(100 * 2 / sum(len(text.split()) for text in GOOD))
    right = answers("base", ["7 times a green cat", "7.4 cats"])
    assert table(right).loc[("base", "facts"), "value"] == pytest.approx(100 * 4 / 7)


def test_leakage_counts_phrases_the_base_never_says():
    """A phrase of the training answers in a general answer; one that the base says itself is nobody's."""
    phrases = [["<", "buy", "bonds"], ["bonds", "now", "buy"], ["<", "no", ">"]]
    base, bad = answers("base", GOOD), answers("bad", [*LOOP[:1], "no", "yes it is", "buy two"])
    found = table(base, bad, template=phrases)
    assert found.loc[("base", "leakage"), "value"] == 0
    assert found.loc[("bad", "leakage"), "value"] == 0.25
    assert domain_phrases({"template": phrases}, NOTHING, base, "base") == {("<", "buy", "bonds"), ("bonds", "now", "buy")}
    assert ("bad", "leakage") not in table(base, bad).index  # no template, no number


def test_the_format_is_asked_of_domain_answers_only():
    domain = answers("base", ['{"a": 1}', "{}", "no", "[1]"], "domain_greedy")
    form = {"schema": {"type": "object", "required": ["a"]}}
    both = pd.concat([domain, answers("base", GOOD)])
    found = quality_table(both, set(), "base", {"answer_format": form}).query("measure == 'format_valid'")
    assert found[["set", "value"]].values.tolist() == [["domain_greedy", 0.25]]


def test_several_seeds_are_averaged():
    one, two = answers("bad", LOOP), answers("bad", GOOD).assign(seed=1)
    found = table(answers("base", GOOD), one, two).loc["bad"]
    assert found.loc["rep3_word", "value"] == 0.25
    assert found.loc["rep3_word", "n"] == 4


# --- intervals ---


def test_whole_clusters_are_drawn():
    counts = draws(["a", "a", "b", "c"], reps=200)
    assert (counts[:, 0] == counts[:, 1]).all() and counts[:, 2:].std() > 0
    assert (counts[:, [0, 2, 3]].sum(1) == 3).all()


def test_the_bootstrap_of_a_mean_has_its_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    found, _ = estimated(values, np.ones(400), draws([str(i) for i in range(400)], reps=4000))
    assert found.value == pytest.approx(values.mean())
    assert found.se == pytest.approx(values.std(ddof=1) / 20, rel=0.05)


def test_the_jackknife_of_a_mean_is_exact():
    values = np.random.default_rng(0).normal(size=50)
    left_out = np.array([np.delete(values, i).mean() for i in range(50)])
    found = jackknifed(values.mean(), left_out)
    assert found.se == pytest.approx(values.std(ddof=1) / np.sqrt(50))
    half = norm.ppf(0.975) * found.se
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-4)


def test_a_ratio_leaves_out_what_is_not_known():
    assert ratio(np.array([1.0, np.nan]), np.array([2.0, np.nan]), np.ones((1, 2)))[0] == 0.5


# --- calibration ---


def test_ece_by_hand():
    """Two in the bin of 0.9 (one right), two in the bin of 0.5 (both right): (2/4) |0.5 - 0.9| + (2/4) |1 - 0.5|."""
    found = ece(np.array([0.9, 0.9, 0.5, 0.5]), np.array([1.0, 0, 1, 1]), ONCE)
    assert found[0] == pytest.approx(0.5 * 0.4 + 0.5 * 0.5)
    assert ece(np.array([1.0, 1.0]), np.array([1.0, 1.0]), np.ones((1, 2)))[0] == 0


def test_auroc_against_scikit_learn_with_ties_and_weights():
    rng = np.random.default_rng(1)
    confidence, correct = rng.integers(0, 12, 80) / 12, rng.integers(0, 2, 80).astype(float)
    counts = rng.integers(0, 3, (3, 80)).astype(float)
    for found, weights in zip(auroc(confidence, correct, counts), counts, strict=True):
        assert found == pytest.approx(roc_auc_score(correct, confidence, sample_weight=weights))


def choices(row: str, confidence: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    lines = []
    for i, (sure, right) in enumerate(zip(confidence, correct, strict=True)):
        fixed = {"row": row, "seed": 0, "task": "t", "group": "general", "channel": "calibration", "item": str(i)}
        values = {"confidence": sure, "correct": right, "brier": (1 - sure) ** 2, "nll_choice": -np.log(sure)}
        lines += [fixed | {"cluster": str(i), "metric": name, "score": value} for name, value in values.items()]
    return pd.DataFrame(lines)


def test_overconfidence_is_seen_and_the_base_reads_zero():
    rng = np.random.default_rng(2)
    sure = rng.uniform(0.4, 0.9, 500)
    right = (rng.random(500) < sure).astype(float)
    frames = choices("base", sure, right), choices("same", sure, right), choices("loud", 0.5 + sure / 2, right)
    found = calibration_table(pd.concat(frames), "base").set_index(["row", "measure"])
    assert (found.loc[["base", "same"], ["change", "change low", "change high"]] == 0).all(axis=None)
    assert found.loc[("base", "ece"), "value"] < 0.08 < found.loc[("loud", "ece"), "value"]
    assert found.loc[("loud", "ece"), "change low"] > 0
    assert found.loc[("loud", "auroc"), "change"] == pytest.approx(0, abs=1e-6)  # the order of items is the same


def test_no_interval_leaves_what_is_possible_and_seeds_are_no_more_items():
    sure, right = np.linspace(0.4, 0.9, 12), np.r_[0.0, 1, np.zeros(2), np.ones(8)]
    twice = [choices("x", sure, right).assign(seed=seed) for seed in (0, 1)]
    found = calibration_table(pd.concat([choices("base", sure, right), *twice]), "base").set_index(["row", "measure"])
    assert found.loc[("x", "auroc"), "high"] == 1 and found.loc[("x", "ece"), "low"] >= 0
    assert set(found["n"]) == {12}


# --- the page ---


@pytest.mark.usefixtures("unrendered")
def test_the_page_has_both_and_escapes_what_models_say(tmp_path):
    folder, store = build(
        tmp_path, items=0.1, curves=False, rows={"base": ("base", "free", 0, 0), "sft": ("recipe", "free", 1, 0)}
    )
    record = read_json(folder / "comparison.json")
    record["template"] = [["<", "<script>alert(1)</script>", "now"]]
    rng = np.random.default_rng(0)
    for entry in record["rows"]:
        entry["evals"]["quality"] = "1" * 16
        run = store.run(entry["key"])
        texts = GOOD if entry["row"] == "base" else LOOP
        run.write_scores("quality", "1" * 16, answers("", texts).drop(columns=["row", "seed"]))
        final = run.scores("final", "0" * 16)
        extra = choices("", rng.uniform(0.3, 1, 30), rng.integers(0, 2, 30)).reindex(columns=list(ITEM_COLUMNS))
        run.write_scores("final", "0" * 16, pd.concat([final, extra.assign(family="t", primary=False, chance=0.0)]))
    write_json(folder / "comparison.json", record)
    written = write_report(folder, store, reps=50)
    page = (folder / "report.html").read_text()
    assert 'id="answers"' in page and 'id="calibration"' in page and "alert(1)</script>" not in page
    assert {"quality.csv", "calibration.csv"} <= {path.name for path in written.files}
    assert len(pd.read_csv(folder / "quality.csv").query("row == 'sft'")) >= 10
