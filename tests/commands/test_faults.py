"""No mistake of the user's ends in a traceback: every exception becomes a sentence, an exit code and a file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from safetensors import SafetensorError

from harness.commands import cli
from harness.commands.faults import explain
from harness.errors import PlanError


def raised(kind: type[BaseException], *arguments: object) -> BaseException:
    try:
        raise kind(*arguments)
    except BaseException as error:
        return error


class GatedRepoError(OSError):
    """As the hub's: known by name, never imported."""


GatedRepoError.__module__ = "huggingface_hub.errors"
USERS = [
    (PermissionError(13, "denied", "/there"), "'/there' may not be read or written"),
    (FileNotFoundError(2, "no", "/there"), "'/there' does not exist"),
    (OSError(28, "full", "/there"), "the disk is full"),
    (OSError(27, "large", "/there"), "is larger than a file may be here"),
    (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "the disk is full"),
    (SafetensorError("Error while deserializing header: header too large"), "a file of weights is damaged"),
    (IsADirectoryError(21, "is", "/there"), "is a folder where a file is wanted"),
    (ModuleNotFoundError("No module named 'deepspeed'", name="deepspeed"), r"pip install 'lethe\[deepspeed\]'"),
    (MemoryError(), "memory ran out"),
    (RuntimeError("CUDA out of memory. Tried to allocate"), "memory ran out"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "not UTF-8"),
    (json.JSONDecodeError("Expecting value", "", 0), "not JSON"),
    (GatedRepoError("403"), "accept its terms"),
    (TimeoutError("timed out"), "network"),
    (RuntimeError("Could not determine home directory."), "there is no user of that name"),
    (RuntimeError("Symlink loop from '/there'"), "a link leads back to itself"),
]


@pytest.mark.parametrize("error, words", USERS, ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "")
def test_what_something_outside_lethe_causes_is_the_users(error, words):
    fault = explain(error)
    assert fault.users and len(fault.sentences) == 1
    assert re.search(words, fault.sentences[0]) and "\n" not in fault.sentences[0]


def test_what_an_exception_was_raised_from_counts():
    try:
        try:
            raise PermissionError(13, "denied", "/there")
        except OSError as error:
            raise ValueError("while writing") from error
    except ValueError as error:
        assert explain(error).users


@pytest.mark.parametrize("kind", [KeyError, ValueError, AssertionError, ZeroDivisionError, AttributeError, RuntimeError])
def test_anything_else_is_lethes_own_and_its_traceback_is_kept(kind):
    fault = explain(raised(kind, "x"))
    assert not fault.users
    file = re.search(r"the traceback is in (\S+):", fault.sentences[0])
    assert file and f"{kind.__name__}" in Path(file[1]).read_text() and "Traceback" in Path(file[1]).read_text()


COMMANDS = {
    "plan": ["plan"],
    "compare": ["compare"],
    "report": ["report", "finance"],
    "recipes": ["recipes"],
    "export": ["export", "finance", "--to", "x"],
    "check": ["check"],
    "publish": ["publish", "x", "--to", "y"],
    "merge": ["merge", "x", "--to", "y"],
    "reproduce": ["reproduce", "x"],
    "repair": ["repair", "base", "tuned", "--to", "y"],
    "annotate": ["annotate", "export", "x", "--to", "y"],
    "data": ["data", "inspect", "x"],
    "verify": ["verify"],
    "measure": ["measure", "base", "tuned"],
    "diff": ["diff", "x", "y"],
}


def test_every_command_is_tried_here():
    assert set(COMMANDS) == set(cli.COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("error, users", [(PermissionError(13, "denied", "/there"), True), (KeyError("x"), False)])
def test_no_command_shows_a_traceback(command, error, users, monkeypatch, capsys):
    def fail(_: object) -> int:
        raise error

    monkeypatch.setitem(cli.COMMANDS, command, fail)
    code = cli.main(COMMANDS[command])
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out and said.err.startswith("lethe: ")
    assert code == (1 if not users else 3 if command == "check" else 2)


def test_ctrl_c_is_no_fault(monkeypatch, capsys):
    def fail(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "recipes", fail)
    assert cli.main(["recipes"]) == 130 and "goes on where it was" in capsys.readouterr().err


def test_a_misspelt_option_is_one_sentence(capsys):
    assert cli.main(["compare", "--budgett", "3epochs"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "did you mean '--budget'?" in said


@pytest.mark.parametrize("command", [["data", "inspect"], ["diff", "x"], ["reproduce"]])
@pytest.mark.parametrize("path", ["~no-such-user/x.json", "loop/x.json"])
def test_a_path_that_leads_nowhere_is_the_users(command, path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    assert cli.main([*command, path]) == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out and "Lethe's own" not in said.err


def test_several_faults_are_said_together(monkeypatch, capsys):
    def fail(_: object) -> int:
        raise PlanError("one", "two")

    monkeypatch.setitem(cli.COMMANDS, "recipes", fail)
    assert cli.main(["recipes"]) == 2 and capsys.readouterr().err == "lethe: one\nlethe: two\n"
