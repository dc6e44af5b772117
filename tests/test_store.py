"""The run store: atomic, append-only, readable without torch."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from harness.files import read_json, replacing, write_atomic, write_json
from harness.store import ITEM_COLUMNS, RunStore, key_of


def test_equal_questions_have_equal_keys():
    assert key_of({"a": 1, "b": [1.5, None]}) == key_of({"b": [1.5, None], "a": 1}) != key_of({"a": 1, "b": [1.5, 0]})


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    with pytest.raises(TypeError):
        write_atomic(tmp_path / "x.json", 3)
    assert read_json(tmp_path / "x.json") == {"a": 1} and len(list(tmp_path.iterdir())) == 1


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    with replacing(tmp_path / "c") as fresh:
        (fresh / "a").write_text("1")
    with pytest.raises(RuntimeError), replacing(tmp_path / "c") as fresh:
        (fresh / "a").write_text("2")
        raise RuntimeError
    assert (tmp_path / "c" / "a").read_text() == "1" and len(list(tmp_path.iterdir())) == 1


def test_scores_keep_layout_and_missing_values(tmp_path):
    run = RunStore(tmp_path).run(key_of("q"))
    row = dict.fromkeys(ITEM_COLUMNS) | {"task": "t", "score": np.nan, "primary": True}
    run.write_scores("final", "abc", pd.DataFrame([row]))
    scores = run.scores("final", "abc")
    assert scores is not None and list(scores.columns) == list(ITEM_COLUMNS) and scores["score"].isna().all()
    assert run.scores("final", "other") is None


def test_a_log_line_cut_by_a_kill_is_left_out(tmp_path):
    run = RunStore(tmp_path).run("0" * 16)
    run.path.mkdir()
    (run.path / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [entry["step"] for entry in run.log()] == [1, 2]
