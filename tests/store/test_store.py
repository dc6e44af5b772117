"""The run store: atomic, append-only, readable without torch."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from harness.store.comparisons import read_scores, read_texts
from harness.store.files import beside, read_json, replacing, sweep, write_atomic, write_json
from harness.store.runs import RunStore
from harness.store.schema import ITEM_COLUMNS, TEXTS, key_of


def test_equal_questions_have_equal_keys():
    assert key_of({"a": 1, "b": [1.5, None]}) == key_of({"b": [1.5, None], "a": 1}) != key_of({"a": 1, "b": [1.5, 0]})


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    with pytest.raises(TypeError):
        write_atomic(tmp_path / "x.json", 3)
    assert read_json(tmp_path / "x.json") == {"a": 1} and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    """The system's own error of a write names none."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_json(tmp_path / "x.json", {"a": 1})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"x\.json"):
        write_json(tmp_path / "x.json", {"a": 2})
    assert read_json(tmp_path / "x.json") == {"a": 1} and len(list(tmp_path.iterdir())) == 1


def test_files_and_folders_have_the_rights_that_the_umask_gives(tmp_path):
    for mask in (0o022, 0o077, 0o002):
        before = os.umask(mask)
        try:
            write_json(tmp_path / "x.json", {})
            with replacing(tmp_path / "c") as fresh:
                (fresh / "a").write_text("1")
                (fresh / "a").chmod(0o600)  # as safetensors leaves its files
        finally:
            os.umask(before)
        assert (tmp_path / "x.json").stat().st_mode & 0o777 == 0o666 & ~mask
        assert (tmp_path / "c").stat().st_mode & 0o777 == 0o777 & ~mask
        assert (tmp_path / "c" / "a").stat().st_mode & 0o777 == 0o666 & ~mask and len(list(tmp_path.iterdir())) == 2


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


def test_what_killed_writes_left_is_removed_and_nothing_else(tmp_path):
    """A process is killed in the middle of a file and of a folder; another one is still writing."""
    code = (
        "import os, sys; from pathlib import Path; from harness.store.files import beside\n"
        "place = Path(sys.argv[1]); (place / 'evals').mkdir()\n"
        "beside(place / 'run.json').write_text('{'); beside(place / 'evals' / 'x.parquet').write_text('P')\n"
        "folder = beside(place / 'checkpoint'); folder.mkdir(); (folder / 'state').write_text('s')\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    ours = beside(tmp_path / "run.json")
    ours.write_text("{")
    kept = [ours, tmp_path / ".hidden", tmp_path / ".run.json.0123456789ab", tmp_path / "run.json"]
    for path in kept[1:]:
        path.write_text("kept")
    assert len(list(tmp_path.rglob(".*"))) == 6
    sweep(tmp_path, deep=True)
    assert sorted(path for path in tmp_path.rglob("*") if path.name != "evals") == sorted(kept)


def test_a_log_line_cut_by_a_kill_is_left_out(tmp_path):
    run = RunStore(tmp_path).run("0" * 16)
    run.path.mkdir()
    (run.path / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [entry["step"] for entry in run.log()] == [1, 2]


def test_many_runs_are_read_as_each_was_stored(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.store.comparisons.AHEAD", 2)
    store, entries, stored, rng = RunStore(tmp_path), [], [], np.random.default_rng(0)
    for number in range(7):
        names = [f"i{i}" for i in range(4 if number in (2, 3, 6) else 5)]  # other items now and then
        table = pd.DataFrame({"item": names, "task": "t", "metric": "acc", "primary": True, "cluster": None}).assign(
            score=rng.random(len(names)), prompt="?", output=[f"{name} of {number}" for name in names], chance=np.nan
        )
        table.loc[0, "score"] = np.nan
        key = key_of(number)
        store.run(key).write_scores("final", "k", table.reindex(columns=list(ITEM_COLUMNS)))
        entry = {"row": f"r{number % 3}", "seed": number, "key": key, "status": "done"}
        entries.append(entry | {"evals": {"final": "k"} if number != 4 else {}})
        stored.append(store.run(key).scores("final", "k").assign(row=f"r{number % 3}", seed=number))
    wanted = pd.concat([one for number, one in enumerate(stored) if number != 4], ignore_index=True)
    scores, texts = read_scores(entries, store, "final"), read_texts(entries, store, "final")
    assert set(texts) - set(scores) == set(TEXTS) and texts["output"].tolist() == wanted["output"].tolist()
    for found in (scores, texts):
        for name in ("row", "seed", "item", "task", "cluster", "score", "primary", "chance"):
            pd.testing.assert_series_equal(found[name].astype(object), wanted[name].astype(object))
    assert read_scores(entries, store, "curve").empty
