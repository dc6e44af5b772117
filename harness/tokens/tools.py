"""Tools that an assistant may call: in the form of the template, or in words if the template has none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from harness.files.turns import Turn

ROLE = "tools"
"""Role of a conversation's first turn if it has tools; its content is JSON, as harness/files/sidecar.py reads it."""
PROBE = Turn(ROLE, '[{"type": "function", "function": {"name": "lethe_tool", "description": "", "parameters": {}}}]')
"""A tool that a template is tried on."""
PROBED = "lethe_tool"
_BEFORE = "You can call these tools:"
_AFTER = (
    'To call one, answer with one JSON object and nothing else: {"name": <the tool>, "arguments": {<its arguments>}}. '
    "If no tool fits, call none and answer in words."
)


def split_tools(turns: Sequence[Turn]) -> tuple[list[dict[str, Any]] | None, list[Turn]]:
    """Return (the tools of a conversation, its other turns); None if it has no tools."""
    if turns and turns[0].role == ROLE:
        return json.loads(turns[0].content), list(turns[1:])
    return None, list(turns)


def tools_in_words(turns: Sequence[Turn]) -> list[Turn]:
    """Return the conversation with its tools described in the system message, for templates that have no form for them."""
    tools, others = split_tools(turns)
    if tools is None:
        return others
    lines = [_BEFORE]
    for tool in tools:
        function = tool["function"]
        parameters = json.dumps(function.get("parameters") or {}, ensure_ascii=False)
        lines.append(f"- {function['name']}: {function.get('description', '')} Arguments, as JSON Schema: {parameters}")
    text = "\n".join([*lines, _AFTER])
    # The system message that is there follows the tools.
    if others and others[0].role == "system":
        return [Turn("system", f"{text}\n\n{others[0].content}"), *others[1:]]
    return [Turn("system", text), *others]
