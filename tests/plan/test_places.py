"""Every option that is a text, given places that are no file of the kind that is wanted: refused in seconds, by name."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from harness.commands.check import check, read_gate
from harness.diff.lm_eval_run import read_run
from harness.errors import PlanError
from harness.files.formats import read_rows
from harness.files.item_file import read_item_file
from harness.gate.announce import check_report
from harness.plan.load import make_plan
from harness.plan.plan import Plan, kind_of

TEXTS = [field.name for field in dataclasses.fields(Plan) if kind_of(field.name) is str]
"""Every option that might name a file: a new one is tried by itself."""
PATIENCE = 60
"""Seconds until a reader counts as one that waits without end."""


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


PLACES: dict[str, Callable[[Path], Any]] = {
    "nothing": lambda path: None,
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "socket": make_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to(path.name),
    "link to a pipe": lambda path: (os.mkfifo("pipe"), path.symlink_to("pipe")),
}
"""What is no file."""
CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "blank": b"\n \n",
    "binary": bytes(range(256)) * 9,
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "long number": b"9" * 5000,
    "list": b"[1]",
    "utf-16 cut off": "{]".encode("utf-16")[:-1],
    "not a number": b'{"a": NaN}',
    "key twice": b'{"a": 1, "a": 2}',
}
"""Files in which nothing stands that any option could mean."""
KINDS = [*PLACES, *CONTENTS]

NO_FILES = {"name", "ray"}
"""Options whose text is not looked at as a place: a comparison's name, and the address of a cluster."""
FOLDERS = {"out", "tensorboard"}
"""Options that name a folder, which need not be there."""
READ_LATER = {"data", "test", "general", "measured"}
"""Options whose contents are read when all that names can tell is settled."""

HUB = {"model", "measured"}
"""Options in which a name that is no file may be one of the hub."""
READABLE = [kind for kind in KINDS if kind not in ("nothing", "dangling link", "loop")]
"""Places where something stands: what, is told when a measured model is read."""


def make(kind: str, place: str) -> str:
    """Make what `kind` says at a place of the working folder."""
    if kind in PLACES:
        PLACES[kind](Path(place))
    else:
        Path(place).write_bytes(CONTENTS[kind])
    return place


class Waited(BaseException):
    """What no reader takes for a fault of reading, as it would a TimeoutError, which is an OSError."""


@contextmanager
def in_time() -> Iterator[None]:
    """Fail where the block waits without end."""

    def late(*_: Any) -> None:
        raise Waited

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def said_of(action: Callable[[], Any]) -> list[str]:
    """Return the faults that an action tells; nothing else may be raised."""
    try:
        with in_time():
            action()
    except PlanError as error:
        return error.faults
    return []


def taken(option: str, kind: str) -> bool:
    """Return whether a plan takes such a place without a word."""
    if option in FOLDERS:
        return kind in ("nothing", "folder")
    if kind == "nothing" and option in HUB:
        return True
    return option in NO_FILES or (option in READ_LATER and kind in CONTENTS) or (option == "measured" and kind in READABLE)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def is_refused_by_its_name(option: str, kind: str, ending: str) -> bool:
    """Return whether a place of this kind says something of the option: else it has a test of its own, or is no file."""
    # A pattern may be any text, and a suite of JSONL is read with the model's tokenizer; a suite may be a folder.
    if option == "answer_format":
        return ending == ".json"
    if option == "suites":
        return kind != "folder" and not (ending == ".jsonl" and kind in CONTENTS)
    return True


@pytest.mark.parametrize("option", TEXTS)
def test_a_plan_refuses_what_is_no_such_file_by_option_value_and_cure(option, tmp_path, monkeypatch):
    word = option.removesuffix("s").split("_")[0]
    wrong: dict[tuple[str, str], list[str]] = {}
    for kind, ending in product(KINDS, (".json", ".jsonl")):
        if not is_refused_by_its_name(option, kind, ending):
            continue
        # Each in a folder of its own: messages name what stands beside.
        folder = tmp_path / f"{kind}{ending}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        place = make(kind, f"place{ending}")
        faults = said_of(lambda place=place: make_plan({option: place}))
        named = any(word in fault and place in fault for fault in faults)
        if bool(faults) if taken(option, kind) else not named:
            wrong[kind, ending] = faults
    assert not wrong


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("options", [{"data": "place.json"}, {"test": "place.json"}, {"general": "place.json"}], ids=str)
def test_contents_that_are_no_records_are_refused_by_name_when_they_are_read(options, kind):
    from harness.setup.material import gather

    make(kind, "place.json")
    faults = said_of(lambda: gather(make_plan(options | {"recipes": "sft mix"})))
    assert faults and all("place.json" in fault for fault in faults), faults


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_model_is_refused_by_name_when_it_is_read(kind):
    from harness.setup.material import gather

    make(kind, "place")
    faults = said_of(lambda: gather(make_plan({"measured": "tuned=./place", "recipes": ""})))
    assert faults and all("place" in fault for fault in faults), faults


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("nothing", "dangling link", "empty", "blank")])
@pytest.mark.parametrize("name", ["config.json", "adapter_config.json", "tokenizer.json", "model.safetensors.index.json"])
def test_a_folder_with_such_a_file_in_it_is_no_model(name, kind):
    from harness.measured.forms import form_of

    Path("model").mkdir()
    if name != "config.json":
        Path("model/config.json").write_text('{"model_type": "llama"}')
    make(kind, f"model/{name}")
    assert said_of(lambda: form_of("model")) or name == "adapter_config.json"


READERS: dict[str, Callable[[str], Any]] = {
    "--plan": lambda place: make_plan({}, place),
    "rules": lambda place: make_plan({"rules": place}),
    "check PLAN": lambda place: read_gate(Path(place)),
    "check --evidence": lambda place: check(evidence=place),
    "diff A": read_run,
    "data inspect IN": lambda place: list(read_rows(place, [])),
    "a suite": lambda place: read_item_file(Path(place)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_files_of_every_command_are_refused_by_name(reader, kind):
    place = make(kind, "place.jsonl" if reader in ("a suite", "diff A") else "place.json")
    faults: list[str] = []
    if reader == "data inspect IN" and kind in CONTENTS:
        place = make(kind, "place.jsonl")
        faults += said_of(lambda: raise_of_rows(place))
    else:
        faults += said_of(lambda: READERS[reader](place))
    # A list in brackets is a table in TOML, and a check may have nothing but defaults.
    if (reader, kind) in (("--plan", "list"), *(("check PLAN", kind) for kind in ("list", "empty", "blank"))):
        assert faults or reader == "check PLAN"
        return
    assert faults and all("place" in fault for fault in faults), faults


def raise_of_rows(place: str) -> None:
    from harness.files.records import read_records

    read_records(place)


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device", "link to a pipe"])
def test_a_verdict_is_not_written_over_a_device_and_that_is_told_before_anything_runs(kind):
    place = make(kind, "place.xml")
    assert "junit 'place.xml' is a" in said_of(lambda: check_report(place))[0]


WRONG_TYPES = {
    "zero.json": ['{"zero_optimization": 3}', '{"zero_optimization": {"stage": 2, "offload_param": "cpu"}}', "[]"],
    "gate.toml": ["check = 3", "seeds = 'x'", "[check]\nnoise_seeds = true", "[check]\ntolerance = []"],
    "plan.toml": ["recipes = [1]", "measured = [[]]", "data = {}", "[name]", "seeds = 1.5"],
    "rules.yaml": ["rules: []\nrules: [{required: a}]", "- {required: a, required: b}", "- {schema: {type: a, type: b}}"],
}
OF_WRONG_TYPES: dict[str, Callable[[str], Any]] = {
    "zero.json": lambda file: make_plan({"deepspeed": file}),
    "gate.toml": lambda file: read_gate(Path(file)),
    "plan.toml": lambda file: make_plan({}, file),
    "rules.yaml": lambda file: make_plan({"rules": file}),
}


@pytest.mark.parametrize(("file", "text"), [(file, text) for file, texts in WRONG_TYPES.items() for text in texts])
def test_settings_of_another_type_and_keys_that_stand_twice_are_refused(file, text):
    Path(file).write_text(text)
    assert len(said_of(lambda: OF_WRONG_TYPES[file](file))) == 1
