"""Rules and answer formats that could only fail at the end are refused at the start; what they hold up ends in time."""

from __future__ import annotations

import json
import socket
import sys

import pytest

from harness.errors import PlanError
from harness.files.rule_files import read_format, read_rules
from harness.text.rules import broken, fits, parse_rules

SCHEMAS = [
    {"$ref": "http://127.0.0.1:9/x.json"},
    {"properties": {"a": {"$ref": "file:///etc/passwd"}}},
    {"$ref": "other.json"},
    {"$ref": "#/$defs/none"},
    {"properties": {"a": {"$ref": "#/$defs/none"}}},
    {"$ref": "#"},
    {"properties": {"a": {"pattern": "("}}},
    {"patternProperties": {"(": {}}},
    {"type": "no type"},
    {"minimum": "a"},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
def test_schemas_that_fail_while_answers_are_judged_are_refused_at_the_start(schema, tmp_path, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asked the network"))
    with pytest.raises(PlanError, match="schema"):
        parse_rules([{"schema": schema}])
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema))
    with pytest.raises(PlanError, match="answer_format"):
        read_format(str(path))


@pytest.mark.parametrize(
    "text",
    [
        *("rules: [{schema: {minimum: .nan}}]", "rules: [{bounds: {low: .inf}}]", "rules: [{schema: {const: 2024-01-01}}]"),
        *(
            "rules: &a [{schema: {x: *a}}]",
            "- {required: 2024-01-01}",
            "rules: [{schema: {const: 2024-99-99}}]",
            "- [",
            "a: b",
            "",
        ),
        *("rules: [{required: '('}]", "rules: [{bounds: {low: 1" + "0" * 5000 + "}}]", "[" * 1200),
    ],
    ids=lambda text: text[:24],
)
def test_rules_that_cannot_be_stored_or_read_are_refused(text, tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(PlanError, match="rules"):
        read_rules(str(path))


@pytest.mark.parametrize(
    "text", ['{"const": NaN}', '{"maximum": Infinity}', '{"const": 1' + "0" * 5000 + "}", "[" * 3000, "[1]", "5"]
)
def test_formats_that_cannot_be_stored_or_read_are_refused(text, tmp_path):
    path = tmp_path / "schema.json"
    path.write_text(text)
    with pytest.raises(PlanError, match="answer_format"):
        read_format(str(path))


def test_a_schema_may_refer_to_itself_and_to_its_definitions():
    tree = {"$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["a"]}}, "$ref": "#/$defs/node"}
    (rule,) = parse_rules([{"schema": tree}])
    assert rule.keeps('{"a": 1, "next": {"a": 2}}') and not rule.keeps('{"a": 1, "next": {}}')


def test_a_pattern_that_an_answer_holds_up_ends_in_time_and_the_item_says_so(monkeypatch):
    monkeypatch.setattr("harness.text.rule_schemas.PATIENCE", 0.05)
    loop, slow = "a" * 200 + "!", "^(a|aa)+$"
    rules = parse_rules([{"required": slow}, {"schema": {"pattern": slow}}, {"bounds": {"find": slow, "low": 1}}])
    names = [*broken(rules[:1], loop), *broken(rules[1:2], json.dumps(loop)), *broken(rules[2:], loop)]
    assert len(names) == 3 and all("not judged within 0.05 s" in name for name in names)
    assert not fits({"regex": "(a|aa)+"}, loop)


def test_an_answer_nested_too_deeply_breaks_its_schema():
    (rule,) = parse_rules([{"schema": {"items": {"$ref": "#"}}}])
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)  # Python's own: some libraries raise it for good
    try:
        (name,) = broken([rule], "[" * 400 + "]" * 400)
    finally:
        sys.setrecursionlimit(before)
    assert "nested too deeply" in name
    assert not rule.keeps("[" * 100_000)


@pytest.mark.parametrize("answer", ["1e999", "-Infinity", "NaN", "9" * 400, '{"a": 1e999}'], ids=lambda text: text[:9])
def test_an_answer_beyond_all_numbers_breaks_its_schema(answer):
    schema = {"multipleOf": 0.1, "properties": {"a": {"multipleOf": 0.1}}}
    rules = parse_rules([{"name": "tenths", "schema": schema}])
    assert not fits({"schema": schema}, answer) and broken(rules, answer) == ["tenths"]
    assert fits({"schema": schema}, "0.5") and not broken(rules, "0.5")
