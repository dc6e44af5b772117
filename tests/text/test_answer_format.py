"""The form of answers: patterns and schemas, and what is wrong with them said in a sentence."""

import json

import pytest

from harness.errors import PlanError
from harness.files.rule_files import read_format
from harness.text.rules import fits


def test_the_whole_answer_must_match():
    form = read_format(r"EUR \d+ million")
    assert fits(form, " EUR 12 million\n")
    assert not fits(form, "It is EUR 12 million")


def test_a_schema_wants_json_that_obeys_it(tmp_path):
    (tmp_path / "schema.json").write_text(json.dumps({"type": "object", "required": ["grade"]}))
    form = read_format(str(tmp_path / "schema.json"))
    assert fits(form, '{"grade": "A"}')
    assert not fits(form, "{}") and not fits(form, "grade: A")


@pytest.mark.parametrize(
    "content, message", [("{", "is not JSON"), ('{"type": "thing"}', "is no JSON Schema"), (None, "does not exist")]
)
def test_faults_are_the_users(tmp_path, content, message):
    path = tmp_path / "schema.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(PlanError, match=message):
        read_format(str(path))


def test_a_broken_pattern_is_named():
    with pytest.raises(PlanError, match="no regular expression"):
        read_format("(")
