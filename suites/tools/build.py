"""Writes the items of this suite from requests.tsv: `python -m suites.tools.build`.

A line of requests.tsv has a language, a request, the tool that fits (or nothing), and its arguments with every accepted value.
"""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent
MENU = json.loads((FOLDER / "menu.json").read_text(encoding="utf-8"))
NAMES = [tool["function"]["name"] for tool in MENU]


def rows() -> dict[str, list[dict[str, object]]]:
    """Return {file: items}: requests that a tool fits, to be answered and to be chosen for, and those that none fits."""
    files: dict[str, list[dict[str, object]]] = {}
    for number, line in enumerate((FOLDER / "requests.tsv").read_text(encoding="utf-8").splitlines(), 1):
        language, question, tool, arguments = line.split("\t")
        if not tool:
            files.setdefault("no_tool", []).append({"id": f"no-tool-{number}", "question": question})
            continue
        row = {"id": f"tool-{number}", "question": question, "tool": tool, "arguments": json.loads(arguments)}
        files.setdefault(f"tool_{language}", []).append(row)
        choices = [json.dumps({"name": name, "arguments": {}})[: -len("}}")] for name in NAMES]
        right = NAMES.index(tool)
        chosen = {"id": f"tool-{number}-name", "type": "choice", "question": question, "choices": choices, "answer": right}
        files[f"tool_{language}"].append(chosen)
    return files


def main() -> None:
    """Write the files of items."""
    for name, items in rows().items():
        lines = [json.dumps(item, ensure_ascii=False) for item in items]
        (FOLDER / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
