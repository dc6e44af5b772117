"""The command by which a user gets a task's data, on a machine with a network, as a local file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Source:
    """Where rows of a task stand on the hub."""

    path: str
    config: str | None
    split: str
    subject: str
    """What a local file calls these rows, where a task has several parts."""


def download(entry: Mapping[str, Any], sources: Sequence[Source]) -> str:
    """Return one command that writes the rows of all sources of an entry of suite.toml as its local file."""
    stem = (*entry.get("files", ()), entry["name"])[0]
    first = sources[0]
    # One part, or one configuration that holds all: a single call writes the file.
    if len(sources) == 1 or "whole" in entry:
        part = entry.get("whole") or first.config
        name = f", {part!r}" if part else ""
        program = f"import datasets; datasets.load_dataset({first.path!r}{name}, split={first.split!r}).to_json('{stem}.jsonl')"
        return f'for {entry["name"]} run: python -c "{program}"'
    loaded = f"d.load_dataset({first.path!r}, c, split=p)"
    # Several parts: each row is marked with the part it came from, by which it is told apart again.
    if "parts" in entry:
        places = dict.fromkeys((source.subject, source.config, source.split) for source in sources)
        program = f"rows = (r | {{'subject': s}} for s, c, p in {list(places)!r} for r in {loaded}); "
    else:
        program = (
            f"path, p = {first.path!r}, {first.split!r}; rows = (r | {{'subject': c}} "
            "for c in d.get_dataset_config_names(path) for r in d.load_dataset(path, c, split=p)); "
        )
    written = f"pathlib.Path('{stem}.jsonl').write_text(''.join(json.dumps(row) + '\\n' for row in rows))"
    return f'for {entry["name"]} run: python -c "import datasets as d, json, pathlib; {program}{written}"'
