"""docs/faq.md: every command there is one that Lethe takes as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from harness.commands.parsing.parser import make_parser
from harness.plan.load import make_plan

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
QUESTIONS = PAGE.split("\n### ")[1:]
COMMANDS = sorted({command.split(" | ")[0] for command in re.findall(r"^(?:    |\$ )(lethe .+)$", PAGE, re.MULTILINE)})
"""Without what a shell does with their output."""
BLOCKS = re.compile(r"```console\n\$ ([^\n]+)\n(.*?)```", re.DOTALL)
PLACES = re.compile(r"/(tmp|home|root|work)/")
"""Places of one machine only."""


def test_every_question_has_a_command():
    assert len(QUESTIONS) == 17
    without = [q.splitlines()[0] for q in QUESTIONS if not re.search(r"^(?:    |\$ )lethe .+$", q, re.MULTILINE)]
    assert not without


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_taken_as_it_stands(command: str, folder: Path):
    options = vars(make_parser().parse_args(shlex.split(command)[1:]))
    if options["command"] == "compare":
        given = {key: value for key, value in options.items() if key not in ("plan", "command", "print_completion")}
        plan = make_plan(given, options["plan"])
        assert plan.recipe_texts


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.splitlines()[0])
def test_outputs_are_of_the_commands_above_them(question: str):
    blocks = BLOCKS.findall(question)
    assert blocks, "no output"
    for command, output in blocks:
        recipes = re.search(r'--recipes "([^"]+)"', command)
        assert output.strip(), f"no output of {command}"
        assert not PLACES.search(output), command
        for recipe in recipes[1].split() if recipes else ():
            assert recipe in output.replace("\n", ""), f"{recipe} is not in the output of {command}"
