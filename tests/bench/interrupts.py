"""How soon Ctrl-C ends a command, wherever it is: `python -m tests.bench.interrupts FOLDER [WORD ...]`

FOLDER is an empty one for models, data and stores. A line is a phase: seconds from the signal to the end of all processes, and
the temporary files that stay. With words, only phases whose name holds one of them. Ends with 1 where a phase takes longer than
five seconds, does not end with 130, or leaves a file.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import conftest
from tests.support.comparisons import flags, lethe, options
from tests.support.interrupted import LIMIT, Interrupted, Reached, after, interrupt, said, written

RECORDS = 200_000
"""Of the large data file."""


@dataclass(frozen=True)
class Phase:
    """A command, and the moment at which it is interrupted."""

    name: str
    arguments: list[str]
    reached: Reached
    env: Mapping[str, str] = field(default_factory=dict)


class Material:
    """Models, data and a finished comparison for the commands, made in a folder once."""

    def __init__(self, folder: Path):
        self.folder, self.out = folder, folder / "results"
        self.model: str = conftest.tiny_path.__wrapped__(self)  # type: ignore[attr-defined]
        self.files: dict[str, str] = conftest.files.__wrapped__(self)  # type: ignore[attr-defined]

    def mktemp(self, name: str) -> Path:
        """Return a folder, as pytest's factory of such does."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def asked(self, **more: Any) -> dict[str, Any]:
        """Return the options of a small comparison."""
        return options(self.files, self.model, self.out, workers=2, checkpoint_every=0.2, name="small") | more

    def finished(self) -> Path:
        """Return the folder of a comparison that has ended."""
        folder = self.out / "small"
        if not (folder / "report.html").exists():
            assert lethe(self.asked()).wait() == 0
        return folder

    def large_file(self) -> Path:
        """Return a data file of many records."""
        path, rng = self.folder / "large.jsonl", random.Random(0)
        if not path.exists():
            with path.open("w") as stream:
                for _ in range(RECORDS):
                    words = " ".join("".join(rng.choices("abcdefgh", k=5)) for _ in range(12))
                    row = {"instruction": f"Grade {words}", "input": "", "output": rng.choice(["buy", "sell"])}
                    stream.write(json.dumps(row) + "\n")
        return path


def silent_server() -> str:
    """Return the address of a hub that takes questions and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    held = []

    def hold() -> None:
        while True:
            held.append(server.accept())

    threading.Thread(target=hold, daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}"


def phases(material: Material) -> list[Phase]:
    """Return all phases, in the order in which they are tried: those of one store before it is finished first."""
    compare = ["compare", *flags(material.asked(recipes="sft lora", name="first"))]
    longer = ["compare", *flags(material.asked(recipes="sft lora", name="longer", budget="40epochs"))]
    again = ["compare", *flags(material.asked(name="again"))]
    large = flags(material.asked(data=str(material.large_file()), name="large"))
    hub = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": silent_server()}
    finished, model = material.finished(), material.model
    measure = ["measure", model, model, *flags({"out": str(material.out), "suites": material.files["echo"]})]
    measure += flags({"data": material.files["domain"], "max_length": 64, "name": "measured"})
    return [
        Phase("compare: imports", compare, said("loading torch")),
        Phase("compare: reading the model", compare, said("reading and hashing the model")),
        Phase("compare: tokenising", compare, said("tokenising")),
        Phase("compare: looking for suite items", compare, said("looking for suite items")),
        Phase("compare: hashing what is asked", compare, said("hashing what is asked")),
        Phase("compare: making the base ready", compare, said("results go to")),
        Phase("compare: scoring the base", compare, written("runs/*/evals/*.journal")),
        Phase("compare: training", longer, said("of budget, loss")),
        Phase("compare: saving a checkpoint", longer, written("runs/*/checkpoint/*")),
        Phase("compare: scoring on the path", longer, written("runs/*/evals/path-*")),
        Phase("compare: writing the report", again, said("writing the report")),
        Phase("compare: drawing the report", again, written("again/plots/*.svg")),
        Phase("compare: a name of the hub", ["compare", "--model", "some/model"], after(9), hub),
        Phase("compare: reading a large file", ["compare", *large], said("reading large.jsonl")),
        Phase("compare: alike records of a large file", ["compare", *large], said("cutting texts")),
        Phase("compare: tokenising a large file", ["compare", *large], said("tokenising")),
        Phase("plan: timing plain fine-tuning", ["plan", *flags(material.asked())], said("timing plain")),
        Phase("plan: timing recipes", ["plan", *flags(material.asked())], said("timing a few steps")),
        Phase("plan: timing the evaluation", ["plan", *flags(material.asked())], said("timing the evaluation")),
        Phase("measure: reading the model", measure, said("reading and hashing the model")),
        Phase("measure: scoring", measure, written("runs/*/evals/*.journal")),
        Phase("report: imports", ["report", finished.name, "--out", str(material.out)], after(1)),
        Phase("report: computing", ["report", finished.name, "--out", str(material.out)], after(4)),
        Phase("merge: begun", ["merge", str(finished), "--to", str(material.out / "merged")], after(1)),
        Phase("merge: under way", ["merge", str(finished), "--to", str(material.out / "merged")], after(3)),
    ]


def line(phase: Phase, ended: Interrupted) -> str:
    """Return what is said of a phase."""
    left = f", left {' '.join(ended.left)}" if ended.left else ""
    code = "" if ended.code == 130 else f", code {ended.code}"
    return f"{phase.name:42} {ended.seconds:5.2f} s{code}{left}"


def main(folder: str, *words: str) -> int:
    """Interrupt every phase that is asked for, and print how each ended."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    material = Material(Path(folder))
    failed = 0
    for phase in phases(material):
        if words and not any(word in phase.name for word in words):
            continue
        ended = interrupt(phase.arguments, material.out, phase.reached, phase.env)
        failed += ended.seconds > LIMIT or ended.code != 130 or bool(ended.left) or "Traceback" in ended.text
        print(line(phase, ended), flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
