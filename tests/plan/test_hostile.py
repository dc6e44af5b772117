"""Every option and every setting of a method, given what nobody should give: refused by name, never a traceback."""

from __future__ import annotations

import dataclasses
import math

import pytest

from harness.errors import PlanError
from harness.plan.check import BOUNDS
from harness.plan.load import make_plan
from harness.plan.plan import Plan, kind_of
from harness.recipes.recipe_text import all_recipe_faults, bundled_methods, setting_faults, written_settings
from harness.text.bounds import read_interval

NAN, INFINITE, HUGE = float("nan"), float("inf"), 10**400
OPTIONS = [field.name for field in dataclasses.fields(Plan)]
NUMBERS = [name for name in OPTIONS if kind_of(name) in (int, float)]
UNENDING = {name for name in NUMBERS if math.inf in read_interval(str(BOUNDS[name]))}
"""Options where infinity means never, or all."""
OTHER_TYPES = [True, False, [], {}, b"x", ("a",), object(), 1j, "a", "", "1e999", "\0", "\ud800"]
ODD_TEXTS = ["\0", "\udc80", "x" * 5000, "../../x", ".", "[/x]\x1b[31m", "=1+1", ",", "1e999epochs", " ", "💥", "{[("]


def faults_of_all(value: object, options: list[str]) -> str:
    """What is said where all of these options have that value."""
    try:
        make_plan(dict.fromkeys(options, value))
    except PlanError as error:
        return "\n".join(error.faults)
    return ""


@pytest.mark.parametrize("value", [NAN, -INFINITE, -1, -0.5, HUGE, -HUGE, *OTHER_TYPES], ids=lambda value: repr(value)[:12])
def test_every_number_of_a_plan_has_bounds_and_a_type(value):
    said = faults_of_all(value, NUMBERS)
    silent = {name for name in NUMBERS if f"{name} takes" not in said and f"{name} must be" not in said}
    assert silent <= (UNENDING if value == HUGE else set())


def test_infinity_is_refused_but_where_it_means_never():
    said = faults_of_all(INFINITE, NUMBERS)
    silent = {name for name in NUMBERS if f"{name} takes" not in said and f"{name} must be" not in said}
    assert silent <= UNENDING


@pytest.mark.parametrize("value", ODD_TEXTS, ids=lambda text: ascii(text[:8]))
def test_odd_texts_are_refused_or_taken_and_never_raise_anything_else(value):
    texts = [name for name in OPTIONS if kind_of(name) is str]
    if value not in ("\0", "\udc80"):
        texts.remove("suites")  # an unknown suite is looked for among lm-eval's tasks, which takes a second
    said = faults_of_all(value, texts)
    for name in ("mode", "meter", "precision", "budget", "device"):
        assert name in said


@pytest.mark.parametrize(
    "name", ["../../x", "/elsewhere/x", ".", "..", "runs", "a/b", "a\\b", "", " ", "[/x]\n", "x" * 300, ".hidden"]
)
def test_names_that_are_no_folder_under_out_are_refused(name):
    assert "name " in faults_of_all(name, ["name"])


@pytest.mark.parametrize("seeds", [0, -1, 1001, 1_000_000])
def test_nobody_trains_a_million_seeds(seeds):
    assert "seeds must be" in faults_of_all(seeds, ["seeds"])


HOSTILE = [NAN, INFINITE, -INFINITE, HUGE, -HUGE, -1.5, None, [], {}, "a", b"x", 1j]


@pytest.mark.parametrize("method", sorted(bundled_methods()))
def test_every_setting_of_a_method_is_held_to_its_type_and_bounds(method):
    settings = written_settings(method)
    assert settings is not None
    for name, setting in settings.items():
        for value in HOSTILE:
            taken = type(value) in setting.types and value in (-1.5, "a")
            if taken and value == -1.5 and setting.bound is not None:
                taken = value in read_interval(str(setting.bound))
            if taken and value == "a":  # words are held against lists of words alone; the method checks others
                taken = not isinstance(setting.bound, tuple)
            if value is None and type(None) in setting.types:
                taken = True
            faults = setting_faults(f"{method}(...)", method, {name: value}, settings)
            assert taken or len(faults) == 1, (method, name, value)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "lora(r=0)",
            "lora(r=4,r=8)",
            "lora(r=True)",
            "sft(lr='a')",
            "sft(lr=None)",
            "sft(lr=-1)",
            "sft(lr=0)",
            "sft(lr=True)",
        ),
        *("sft(lr=1e999)", "sft(lr=nan)", "ewc(strength=-1)", "distill(alpha=5)", "wise(alpha=2)", "sft#x", "sft(", "sft()+"),
        *(
            "sft(lr=9" + "9" * 5000 + ")",
            "sft(" + "(" * 500,
            "sft(lr=__import__('os'))",
            "sft(**{})",
            "sft(1)",
            "sft.lr",
            "+",
            "sft(lr=1e-5,lr=1)",
        ),
        *(
            "x" * 5000,
            "sft\0",
            "sft(lr=-1e-5)",
            "sft(lr=1j)",
            "nosuch",
            "sft(nosuch=1)",
            "[/x]",
            "\x1b[31m",
        ),
    ],
    ids=lambda text: ascii(text[:14]),
)
def test_recipes_that_cannot_be_are_refused_in_sentences(text):
    assert all_recipe_faults([text])
