"""Tools in prompts: in the template's own form where it has one, else in words in the system message."""

from __future__ import annotations

import copy
import json

import pytest

from harness.errors import PlanError
from harness.files.sidecar import read_tools
from harness.files.turns import Turn
from harness.tasks.suites import load_suite
from harness.tokens.chat_template import ChatTemplate

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
TOOLS = Turn("tools", json.dumps([TOOL]))
OWN_FORM = (
    "{% if tools %}<s>tools\n{% for tool in tools %}{{ tool.function.name }}: {{ tool | tojson }}\n{% endfor %}</s>\n"
    "{% endif %}"
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
QUESTION = Turn("user", "Rain in Oslo?")


def test_a_template_without_a_form_for_tools_has_them_in_the_system_message(base) -> None:
    template = ChatTemplate(base.tokenizer)
    prompt = template.prompt((TOOLS, Turn("system", "Be brief."), QUESTION))
    assert "<s>system\nYou can call these tools:\n- get_weather: Weather of a city." in prompt
    assert "no tool fits" in prompt
    assert "Be brief.</s>" in prompt
    assert prompt.count("<s>system") == 1
    assert "<s>tools" not in prompt
    assert any("no form for tools" in note for note in template.notes)
    tokens = template.prompt_tokens([prompt])[0]
    assert "get_weather" in base.tokenizer.decode(tokens)


def test_a_template_with_a_form_for_tools_writes_them_itself(base) -> None:
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.chat_template = OWN_FORM
    template = ChatTemplate(tokenizer)
    prompt = template.prompt((TOOLS, Turn("system", "Be brief."), QUESTION))
    assert prompt.startswith("<s>tools\nget_weather: {")
    assert "<s>system\nBe brief.</s>" in prompt
    assert "You can call these tools" not in prompt
    asked = [{"role": turn.role, "content": turn.content} for turn in (Turn("system", "Be brief."), QUESTION)]
    expected = tokenizer.apply_chat_template(asked, tools=[TOOL], tokenize=False, add_generation_prompt=True)
    assert prompt == expected
    assert template.notes == []


def test_conversations_without_tools_are_what_they_were(base) -> None:
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.chat_template = OWN_FORM
    assert "tools" not in ChatTemplate(tokenizer).prompt((QUESTION,))


def test_tools_of_a_suite(tmp_path) -> None:
    path = tmp_path / "ask.jsonl"
    path.write_text(json.dumps({"question": "Rain?", "required": "get_weather", "system": "Be brief."}))
    (tmp_path / "ask.toml").write_text('tools = "menu.json"')
    with pytest.raises(PlanError, match="does not exist"):
        load_suite(str(path))
    for fault in ("[]", "[{}]", json.dumps([TOOL, TOOL]), "{"):
        (tmp_path / "menu.json").write_text(fault)
        with pytest.raises(PlanError, match=r"no list of tools|is not JSON"):
            load_suite(str(path))
    (tmp_path / "menu.json").write_text(json.dumps([TOOL]))
    (task,) = load_suite(str(path))
    assert task.task.docs[0]["before"] == [["tools", read_tools(tmp_path / "menu.json")], ["system", "Be brief."]]
    path.write_text(json.dumps({"question": "", "choices": ["a", "b"], "answer": 0}))
    with pytest.raises(PlanError, match="cannot have tools"):
        load_suite(str(path))
