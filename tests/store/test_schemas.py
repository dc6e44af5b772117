"""The documented JSON schemas hold of what is written, and notice what is not."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).parents[2]
PUBLISHED = sorted(path.parent for path in (ROOT / "results" / "published").glob("*/comparison.json"))


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((ROOT / "docs" / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
@pytest.mark.parametrize("name", ["comparison", "table"])
def test_published_results_keep_their_schema(folder, name):
    record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    assert not list(validator(name).iter_errors(record))


def test_a_record_without_a_field_or_with_another_type_breaks_it():
    record = json.loads((PUBLISHED[0] / "comparison.json").read_text(encoding="utf-8"))
    for damage in ({"rows": "none"}, {"protocol": 0}, {"schema_version": 99}):
        assert list(validator("comparison").iter_errors(record | damage))
    without = copy.deepcopy(record)
    del without["rows"][0]["key"]
    assert list(validator("comparison").iter_errors(without))
