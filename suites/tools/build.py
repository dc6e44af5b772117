"""Writes the items of this suite from requests.tsv: `python -m suites.tools.build`.

A line of requests.tsv has a language, a request, the tool that fits (or nothing), and its arguments with every accepted value.
"""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent
MENU = json.loads((FOLDER / "menu.json").read_text(encoding="utf-8"))
NAMES = [tool["function"]["name"] for tool in MENU]
WORDS = {
    "en": ("All right, I will do that for you.", "Sure, let me tell you about that.", "Of course, here is what you want."),
    "zh": ("好的，我来为您办这件事。", "没问题，让我来告诉您。", "当然可以，这就是您要的。"),
}
"""Language -> how an answer begins that calls nothing."""


def rows() -> dict[str, list[dict[str, object]]]:
    """Return {file: items}.

    A request that a tool fits is to be answered, and chosen for twice: which tool is called, and whether one is called at all.
    A request that none fits is to be answered, and chosen for once: a call or words.
    """
    files: dict[str, list[dict[str, object]]] = {}
    for number, line in enumerate((FOLDER / "requests.tsv").read_text(encoding="utf-8").splitlines(), 1):
        language, question, tool, arguments = line.split("\t")
        if not tool:
            files.setdefault("no_tool", []).append({"id": f"no-tool-{number}", "question": question})
            files["no_tool"].append(call_or_words(f"no-tool-{number}", language, question, number, ""))
            continue
        files.setdefault(f"call_{language}", []).append(call_or_words(f"tool-{number}", language, question, number, tool))
        row = {"id": f"tool-{number}", "question": question, "tool": tool, "arguments": json.loads(arguments)}
        files.setdefault(f"tool_{language}", []).append(row)
        choices = [beginning(name) for name in NAMES]
        right = NAMES.index(tool)
        chosen = {"id": f"tool-{number}-name", "type": "choice", "question": question, "choices": choices, "answer": right}
        files[f"tool_{language}"].append(chosen)
    return files


def beginning(tool: str) -> str:
    """Return how a call of a tool begins."""
    return json.dumps({"name": tool, "arguments": {}})[: -len("}}")]


def call_or_words(name: str, language: str, question: str, number: int, tool: str) -> dict[str, object]:
    """Return an item that asks whether an answer begins with a call or with words; without `tool` words are right."""
    call = beginning(tool or NAMES[number % len(NAMES)])
    words = WORDS[language][number % len(WORDS[language])]
    right, wrong = (call, words) if tool else (words, call)

    # Neither place is right more often than the other.
    answer = number // len(WORDS[language]) % 2
    choices = [right, wrong] if answer == 0 else [wrong, right]
    return {"id": f"{name}-opener", "type": "choice", "question": question, "choices": choices, "answer": answer}


def main() -> None:
    """Write the files of items."""
    for name, items in rows().items():
        lines = [json.dumps(item, ensure_ascii=False) for item in items]
        (FOLDER / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
