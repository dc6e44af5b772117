"""The files of a baseline as somebody may have left them: each fault is a sentence that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.bundled import embedded
from harness.errors import PlanError
from harness.gate.baseline import Gate, read_policy
from harness.gate.evidence import read_evidence

OURS = Gate(embedded().folder / "check.toml", {}, 2.0, 3)


def damaged(file: Path, folder: Path, damage: Callable[[Any], Any]) -> Path:
    """Return a copy of a JSON file with something changed."""
    copy = folder / file.name
    copy.write_text(json.dumps(damage(json.loads(file.read_text(encoding="utf-8")))), encoding="utf-8")
    return copy


def without(name: str) -> Callable[[Any], Any]:
    return lambda record: {key: value for key, value in record.items() if key != name}


@pytest.mark.parametrize(
    "damage",
    [
        without("items_sha256"),
        without("metrics"),
        lambda record: [record],
        lambda record: record | {"metrics": [1]},
        lambda record: record | {"metrics": []},
        lambda record: record | {"metrics": {"sft": []}},
        lambda record: record | {"metrics": {"sft": {"domain": None}}},
        lambda record: record | {"metrics": {"sft": {"domain": {"floor": "5"}}}},
        lambda record: record | {"metrics": {"sft": {"domain": {}}}},
    ],
)
def test_a_baseline_of_another_form_is_named(damage, tmp_path):
    baseline = damaged(OURS.baseline, tmp_path, damage)
    shutil.copy(OURS.items, tmp_path)
    with pytest.raises(PlanError, match=baseline.name):
        read_policy(Gate(tmp_path / OURS.file.name, {}, 2.0, 3))


def row_of(record: Any, **changes: Any) -> Any:
    return record | {"rows": record["rows"] | {"sft": record["rows"]["sft"] | changes}}


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: [record],
        lambda record: record | {"rows": [1]},
        lambda record: record | {"rows": []},
        lambda record: record | {"rows": {"sft": None}},
        lambda record: row_of(record, seeds=3),
        lambda record: row_of(record, seeds={"0": {"status": 1}}),
        lambda record: record | {"rows": {"sft": {}}},
        lambda record: record | {"measures": {"a/b": {"task": "a"}}},
    ],
)
def test_evidence_of_another_form_is_named(damage, tmp_path):
    with pytest.raises(PlanError, match=OURS.items.name):
        read_evidence(damaged(OURS.items, tmp_path, damage))


def test_our_own_baseline_is_read():
    assert read_policy(OURS).floors
