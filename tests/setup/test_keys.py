"""What names a run: the content of everything it is made of, wherever that lies."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.commands.compare import prepare, question_of
from harness.plan.load import make_plan
from harness.setup.specs import run_specs

METHOD = '''
from harness.contract import Method

class Halved(Method):
    """Half the rate."""
    def rate(self, fraction):
        return 0.5
'''


@pytest.fixture(scope="module")
def asked(tmp_path_factory, tiny_path) -> Path:
    """Everything that a comparison reads, in one folder."""
    folder = tmp_path_factory.mktemp("asked")
    domain = [{"instruction": f"Grade item number {i}", "output": "buy" if i % 2 else "sell"} for i in range(120)]
    test = [{"instruction": f"Grade this, the case {i}", "output": "buy"} for i in range(20)]
    general = [{"instruction": f"Echo the word w{i}", "output": f"w{i}"} for i in range(60)]
    suite = [{"id": str(i), "question": f"Say x{i}", "answer": f"x{i}"} for i in range(20)]
    for name, rows in (("domain", domain), ("test", test), ("general", general)):
        (folder / f"{name}.json").write_text(json.dumps(rows))
    (folder / "suite.jsonl").write_text("\n".join(map(json.dumps, suite)))
    (folder / "halved.py").write_text(METHOD)
    shutil.copytree(tiny_path, folder / "model")
    shutil.copytree(tiny_path, folder / "tuned")
    change_weights(folder / "tuned")
    return folder


def answers(folder: Path) -> dict[str, str]:
    """What names the runs of a comparison over this folder, its evaluations, and the comparison."""
    files = {name: str(folder / f"{name}.json") for name in ("test", "general")}
    options = files | {"data": str(folder / "domain.json"), "suites": str(folder / "suite.jsonl")}
    options |= {"model": str(folder / "model"), "recipes": f"sft mix {folder}/halved.py:Halved", "budget": "5steps"}
    options |= {"measured": f"tuned={folder}/tuned", "out": str(folder / "out"), "max_length": 64, "precision": "float32"}
    material, evaluation, allowed = prepare(make_plan(options))
    keys = {spec.row.rpartition(":")[2]: spec.key for spec in run_specs(material, allowed)}
    keys |= {str(kind): key for kind, key in evaluation.keys.items()}
    return keys | {"comparison": json.dumps(question_of(material).fields)}


def change_weights(model: Path) -> None:
    """Change one number of a model, and leave its file as large and as old as it was."""
    path = model / "model.safetensors"
    before = path.stat()
    weights = load_file(path)
    name = sorted(weights)[0]
    weights[name] = weights[name].clone()
    weights[name].view(-1)[7] += 0.5
    save_file(weights, path, {"format": "pt"})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swapped(name: str, text: str, instead: str) -> Callable[[Path], None]:
    """Return a change of one file's text."""

    def change(folder: Path) -> None:
        path = folder / name
        assert text in path.read_text()
        path.write_text(path.read_text().replace(text, instead))

    return change


TRAINED = {"zero budget", "sft", "mix", "Halved"}
EVERYTHING = {"base", "tuned", *TRAINED}
CHANGES: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "the model": (lambda folder: change_weights(folder / "model"), {*EVERYTHING, "comparison"}),
    "a model tuned elsewhere": (lambda folder: change_weights(folder / "tuned"), {"tuned"}),
    "the data": (swapped("domain.json", "sell", "hold"), {*TRAINED, "comparison"}),
    "the general pool": (swapped("general.json", "Echo the", "Say the"), {"mix"}),
    "the test records": (swapped("test.json", "buy", "sell"), {"final", "curve", "comparison"}),
    "a suite": (swapped("suite.jsonl", '"x3"', '"x4"'), {"final", "curve"}),
    "a method": (swapped("halved.py", "0.5", "0.25"), {"Halved"}),
}
"""What is changed in place -> the keys that must change with it."""


@pytest.fixture(scope="module")
def before(asked) -> dict[str, str]:
    torch.set_num_threads(1)
    return answers(asked)


def test_the_same_content_elsewhere_is_the_same_question(asked, before, tmp_path):
    moved = shutil.copytree(asked, tmp_path / "elsewhere" / "moved")
    assert answers(moved) == before


@pytest.mark.parametrize("changed", CHANGES)
def test_what_is_changed_in_place_is_another_question(changed, asked, before, tmp_path):
    change, wanted = CHANGES[changed]
    folder = shutil.copytree(asked, tmp_path / "asked")
    change(folder)
    after = answers(folder)
    different = {name for name in before if before[name] != after[name]}
    assert wanted <= different
    assert not (different & EVERYTHING) - wanted  # other runs stay found
