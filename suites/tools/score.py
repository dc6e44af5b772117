"""Tool calls read from answers, in any of the forms that chat templates teach, and scored without running anything.

Read are: one JSON object {"name" | "tool" | "function", "arguments" | "parameters" | "args"}, bare, fenced, in a list or behind
a mark such as <tool_call> or [TOOL_CALLS]; <function=name>{...}</function>; and name(argument="value").
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

NAMES = ("name", "tool", "tool_name", "function", "function_name")
ARGUMENTS = ("arguments", "parameters", "args", "params", "input")
_NAMED = re.compile(r"<function=([\w.-]+)>\s*(\{.*?\})\s*</function>", re.DOTALL)
_PYTHON = re.compile(r"^\W*?\[?\s*([A-Za-z_]\w*\(.*\))\s*\]?\W*$", re.DOTALL)


@dataclass(frozen=True)
class Call:
    """A call of a tool, as an answer writes it."""

    name: str
    arguments: Any


@lru_cache(maxsize=1)
def menu() -> dict[str, dict[str, Any]]:
    """Return {tool: JSON Schema of its arguments}."""
    tools = json.loads((Path(__file__).parent / "menu.json").read_text(encoding="utf-8"))
    return {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}


def read_call(output: str) -> Call | None:
    """Return the first call in an answer; None if it calls nothing."""
    named = _NAMED.search(output)
    if named:
        return Call(named[1], _loaded(named[2]))
    for value in _values(output):
        found = _as_call(value)
        if found:
            return found
    return _as_python(output)


def _values(text: str) -> Iterator[Any]:
    """Yield the JSON objects and lists that begin in a text, outermost first."""
    decoder = json.JSONDecoder()
    place = 0
    while begun := re.search(r"[\[{]", text[place:]):
        place += begun.start()
        try:
            value, size = decoder.raw_decode(text[place:])
        except (ValueError, RecursionError):
            place += 1
            continue
        yield value
        place += size


def _as_call(value: Any) -> Call | None:
    """Return a JSON value as a call, None if it is none."""
    if isinstance(value, list):
        return _as_call(value[0]) if value else None
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("function"), dict):
        return _as_call(value["function"])
    name = next((value[key] for key in NAMES if isinstance(value.get(key), str)), None)
    given = next((key for key in ARGUMENTS if key in value), None)
    if name is None or (given is None and name not in menu()):
        return None
    arguments = value[given] if given else {}
    return Call(name, _loaded(arguments) if isinstance(arguments, str) else arguments)


def _as_python(text: str) -> Call | None:
    """Return an answer that is a Python call with keywords as a call."""
    whole = _PYTHON.match(text.strip())
    try:
        tree = ast.parse(whole[1], mode="eval").body if whole else None
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id in menu() and not tree.args:
            return Call(tree.func.id, {str(word.arg): ast.literal_eval(word.value) for word in tree.keywords})
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    return None


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _valid(call: Call) -> bool:
    """Return whether the tool exists and the arguments keep its schema."""
    from jsonschema import Draft202012Validator

    return call.name in menu() and Draft202012Validator(menu()[call.name]).is_valid(call.arguments)


def _matches(arguments: Any, wanted: Mapping[str, Sequence[Any]]) -> bool:
    """Return whether the arguments are those wanted, each in one of its accepted forms, and no others."""
    if not isinstance(arguments, dict) or set(arguments) != set(wanted):
        return False
    return all(any(_equal(arguments[name], value) for value in accepted) for name, accepted in wanted.items())


def _equal(one: Any, other: Any) -> bool:
    if isinstance(other, str):
        return isinstance(one, str) and _plain(one) == _plain(other)
    return isinstance(one, (int, float)) and not isinstance(one, bool) and math.isclose(one, other)


def _plain(text: str) -> str:
    """Return a text without case, outer blanks, quotes and end marks."""
    return text.casefold().strip(" \t\n.!。！\"'“”《》")


def call(output: str, row: Mapping[str, Any]) -> dict[str, float]:
    """Score an answer that should call `row["tool"]` with `row["arguments"]`."""
    said = read_call(output)
    if said is None:
        return dict.fromkeys(("right_call", "valid", "right_tool", "right_arguments"), 0.0)
    valid = _valid(said)
    tool = said.name == row["tool"]
    arguments = tool and _matches(said.arguments, row["arguments"])
    scores = {"right_call": valid and arguments, "valid": valid, "right_tool": tool, "right_arguments": arguments}
    return {name: float(score) for name, score in scores.items()}


def restraint(output: str, row: Mapping[str, Any]) -> dict[str, float]:
    """Score an answer that should call nothing and say something; a call that is cut off or broken is none the less one."""
    named = any(name in output for name in menu())
    return {"restraint": float(bool(output.strip()) and not named and read_call(output) is None)}
