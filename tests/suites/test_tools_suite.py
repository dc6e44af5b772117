"""The tools suite: calls in every form, right tool, right arguments, restraint."""

from __future__ import annotations

import json

import pytest

from harness.files.sidecar import read_tools
from harness.tasks.suites import load_suite
from suites.tools.build import FOLDER, MENU, NAMES, rows
from suites.tools.score import call, read_call, restraint

ROW = {"tool": "get_weather", "arguments": {"city": ["Oslo", "Oslo city"], "day": ["tomorrow"]}}
BODY = '{"city": "oslo", "day": "tomorrow"}'
RIGHT = [
    f'{{"name": "get_weather", "arguments": {BODY}}}',
    f'<tool_call>\n{{"name": "get_weather", "arguments": {BODY}}}\n</tool_call>',
    f'Let me look.\n```json\n{{"tool": "get_weather", "parameters": {BODY}}}\n```',
    f'[TOOL_CALLS] [{{"name": "get_weather", "arguments": {BODY}}}]',
    f'{{"type": "function", "function": {{"name": "get_weather", "arguments": {BODY}}}}}',
    json.dumps({"name": "get_weather", "arguments": BODY}),
    f"<function=get_weather>{BODY}</function>",
    'get_weather(city="Oslo", day="tomorrow")',
    '[get_weather(city="Oslo", day="tomorrow")]',
]
WRONG = {
    "no call": ("It will rain in Oslo tomorrow.", [0, 0, 0, 0]),
    "cut off": ('{"name": "get_weather", "arguments": {"city": "Os', [0, 0, 0, 0]),
    "unknown tool": (f'{{"name": "weather", "arguments": {BODY}}}', [0, 0, 0, 0]),
    "another tool": ('{"name": "set_alarm", "arguments": {"time": "07:00"}}', [0, 1, 0, 0]),
    "an argument missing": ('{"name": "get_weather", "arguments": {"city": "Oslo"}}', [0, 0, 1, 0]),
    "a wrong value": ('{"name": "get_weather", "arguments": {"city": "Rome", "day": "tomorrow"}}', [0, 1, 1, 0]),
    "not in the list": ('{"name": "get_weather", "arguments": {"city": "Oslo", "day": "Tomorrow"}}', [0, 0, 1, 1]),
    "one too many": ('{"name": "get_weather", "arguments": {"city": "Oslo", "day": "tomorrow", "hour": 3}}', [0, 0, 1, 0]),
}


@pytest.mark.parametrize("text", RIGHT)
def test_every_form_of_a_call_is_read(text: str) -> None:
    assert set(call(text, ROW).values()) == {1.0}
    assert restraint(text, {}) == {"restraint": 0.0}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_scored_so(case: str) -> None:
    text, expected = WRONG[case]
    assert list(call(text, ROW).values()) == expected
    assert list(call(text, ROW)) == ["right_call", "valid", "right_tool", "right_arguments"]


def test_chinese_arguments() -> None:
    row = {"tool": "play_song", "arguments": {"title": ["红豆"], "artist": ["王菲"]}}
    assert call('{"name": "play_song", "arguments": {"title": "《红豆》", "artist": "王菲"}}', row)["right_call"] == 1.0
    assert call('{"name": "play_song", "arguments": {"title": "晴天", "artist": "王菲"}}', row)["right_arguments"] == 0.0


def test_restraint() -> None:
    assert restraint("Shakespeare wrote it, in the {fifteen-nineties}.", {}) == {"restraint": 1.0}
    assert restraint("莎士比亚写的。", {}) == {"restraint": 1.0}
    assert restraint("", {}) == {"restraint": 0.0}
    assert restraint('{"name": "get_wea', {}) == {"restraint": 1.0}
    assert restraint('{"name": "get_weather", "arg', {}) == {"restraint": 0.0}, "a call that is cut off is one"


def test_numbers_are_numbers() -> None:
    row = {"tool": "convert_currency", "arguments": {"amount": [250], "source": ["USD"], "target": ["EUR"]}}
    good = '{"name": "convert_currency", "arguments": {"amount": 250.0, "source": "usd", "target": "EUR"}}'
    assert call(good, row)["right_call"] == 1.0
    text = good.replace("250.0", '"250"')
    assert call(text, row)["valid"] == call(text, row)["right_arguments"] == 0.0


def test_every_item_can_be_answered_right() -> None:
    for items in rows().values():
        for row in items:
            if "tool" in row:
                arguments = {name: accepted[0] for name, accepted in dict(row["arguments"]).items()}  # type: ignore[call-overload]
                said = json.dumps({"name": row["tool"], "arguments": arguments}, ensure_ascii=False)
                assert set(call(said, row).values()) == {1.0}, row


def test_eighty_items_of_eight_tools_and_the_files_are_what_the_builder_writes() -> None:
    made = rows()
    answered = [row for items in made.values() for row in items if row.get("type") != "choice"]
    assert len(answered) == 80
    assert len(MENU) == 8
    assert {row["tool"] for row in answered if "tool" in row} == set(NAMES)
    for name, items in made.items():
        lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == items
    tasks = load_suite("tools")
    assert {task.area for task in tasks} == {"how"}
    menu = read_tools(FOLDER / "menu.json")
    for task in tasks:
        assert all(doc["before"][0] == ["tools", menu] for doc in task.task.docs)
        if task.channel == "generation":
            assert task.task.config.generation_kwargs["max_gen_toks"] >= 256


def test_a_call_or_words_is_asked_of_every_request_and_neither_place_is_right_more_often() -> None:
    made = rows()
    asked = [row for items in made.values() for row in items if str(row["id"]).endswith("-opener")]
    assert len(asked) == 80
    first = sum(row["answer"] == 0 for row in asked)
    assert 32 <= first <= 48
    for row in asked:
        right = str(row["choices"][row["answer"]])  # type: ignore[index]
        wrong = str(row["choices"][1 - int(str(row["answer"]))])  # type: ignore[index]
        fits = not str(row["id"]).startswith("no-tool")
        assert (right.startswith('{"name"'), wrong.startswith('{"name"')) == (fits, not fits), row
    tool = {str(row["id"]): row["tool"] for items in made.values() for row in items if "tool" in row}
    for row in made["call_en"] + made["call_zh"]:
        assert f'"{tool[str(row["id"]).removesuffix("-opener")]}"' in str(row["choices"][row["answer"]])  # type: ignore[index]


def test_nothing_is_a_call_that_only_looks_like_one() -> None:
    assert read_call('{"name": "Anna", "age": 3}') is None
    assert read_call("print(3)") is None
    assert read_call("[1, 2, 3] and {4}") is None
    assert read_call("{" * 3000) is None
