"""Methods that somebody else wrote: what is wrong with one is said in a sentence that names it and its hook."""
# ruff: noqa: E501 (tables of one-line methods)

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from harness.commands.cli import main
from harness.errors import PlanError
from harness.recipes.hooks import RETURNS, HookError
from harness.recipes.method_faults import class_faults
from harness.recipes.recipe import parse_recipe
from harness.recipes.recipe_text import installed_methods, recipe_faults
from harness.recipes.registry import broken_methods, find_method, methods
from harness.runs.laws import LAWS, Workshop, named, verdicts
from harness.text.bounds import bound_fault
from tests.support.training import make_run, trained

FREE = ("targets", "schedule")
"""Settings of the bundled methods that are names or a text of their own form."""


def idea(tmp_path: Path, body: str, head: str = "") -> str:
    """A method in a file of its own."""
    path = tmp_path / "idea.py"
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    path.write_text(f"import torch\nfrom harness.contract import Method\n{head}\nclass Idea(Method):\n{lines}")
    return f"{path}:Idea"


def refusal(recipe: str) -> str:
    with pytest.raises(PlanError) as caught:
        parse_recipe(recipe)
    assert len(caught.value.faults) == 1
    return str(caught.value)


# --- the class -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def penaltty(self, logits, batch, run): return logits[:, 0]", "Idea.penaltty is no hook, so nothing calls it; did you mean 'penalty'?"),
        ("def token_weight(self, nll, logits, batch): return nll", "did you mean 'token_weights'?"),
        ("def rates(self, fraction): return 1.0\ndef stop(self, run): return False", "Idea.rates is no hook"),
        ("def regularise(self, loss): return loss", "Idea fills no hook, so it is plain fine-tuning; it has regularise; hooks are records"),
        ("pass", "Idea fills no hook"),
        ("def penalty(self, logits, batch): return logits[:, 0]", "Idea.penalty takes (self, logits, batch), and is called with (self, logits, batch, run)"),
        ("def __init__(self, strength): pass\ndef rate(self, fraction): return 1.0", "Idea's setting 'strength' has no default"),
        ("def __init__(self, **settings): pass\ndef rate(self, fraction): return 1.0", "name each setting, with its default"),
        ("def __init__(self, lr=1.0): pass\ndef rate(self, fraction): return 1.0", "is every recipe's learning rate"),
        ("needs = frozenset({'genral_data'})\ndef rate(self, fraction): return 1.0", "needs 'genral_data', which nothing answers; did you mean 'general_data'?"),
        ("needs = 'line'\ndef rate(self, fraction): return 1.0", "write it as frozenset"),
        ("adds = 'everywhere'\ndef trainable(self, model, run): return model", "Idea.adds is 'everywhere'; it is one of"),
        ("bounds = {'a': '0 to 1'}\ndef __init__(self, a=0.5): pass\ndef rate(self, fraction): return 1.0", "'0 to 1' is no interval"),
        ("bounds = {'b': '[0, 1]'}\ndef __init__(self, a=0.5): pass\ndef rate(self, fraction): return 1.0", "Idea.bounds names 'b', which is no setting"),
        ("bounds = {'a': '[0, 1]'}\ndef __init__(self, a=5.0): pass\ndef rate(self, fraction): return 1.0", "a must be from 0 to 1, not 5.0"),
        ("def __init__(self, a=5.0): raise ValueError('a is odd')\ndef rate(self, fraction): return 1.0", "a is odd"),
        ("def __init__(self, a=5.0): self.b = a.real.foo\ndef rate(self, fraction): return 1.0", "Idea cannot be made: AttributeError"),
    ],
)  # fmt: skip
def test_a_class_that_is_no_whole_method_is_refused_by_name(tmp_path, body, words):
    assert words in refusal(idea(tmp_path, body))


def test_a_needs_name_that_follows_from_a_setting_is_checked_too(tmp_path):
    body = "def __init__(self, on: str = 'line'): self.needs = frozenset({on})\ndef finish(self, weights, run): return weights"
    parse_recipe(idea(tmp_path, body))
    assert "needs 'lin', which nothing answers; did you mean 'line'?" in refusal(idea(tmp_path, body) + "(on='lin')")


def test_a_method_that_fills_no_hook_on_purpose_says_so(tmp_path):
    assert parse_recipe(idea(tmp_path, "plain = True")).names == ("Idea",)


def test_bundled_methods_are_whole_and_bound_every_setting():
    for name, method in methods().items():
        assert class_faults(method) == []
        settings = inspect.signature(method).parameters.values()
        unbound = [p.name for p in settings if not isinstance(p.default, bool) and p.name not in (*method.bounds, *FREE)]
        assert not unbound, f"{name}: {unbound}"


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("sft(lr=abc)", "sft(lr=...) takes a number, not 'abc'"),
        ("sft(lr='a')", "takes a number"),
        ("sft(lr=None)", "takes a number, not None"),
        ("sft(lr=True)", "takes a number, not True"),
        ("sft(lr=nan)", "takes a number, not 'nan'"),
        ("sft(lr=-1)", "lr must be above 0, not -1"),
        ("sft(lr=0)", "lr must be above 0, not 0"),
        ("sft(lr=1e999)", "lr must be above 0 and finite, not inf"),
        ("lora(r=0)", "lora: r must be 1 or more, not 0"),
        ("lora(dropout=1.0)", "lora: dropout must be from 0 to below 1, not 1.0"),
        ("lora(r=4,r=8)", "lora is given r more than once"),
        ("ewc(strength=-1)", "ewc: strength must be 0 or more, not -1.0"),
        ("distill(alpha=5)", "distill: alpha must be from 0 to 1, not 5.0"),
        ("wise(alpha=2)", "wise: alpha must be from 0 to 1, not 2.0"),
        ("ewc(fisher=maybe)", "ewc: fisher is true or empirical, not 'maybe'"),
        ("sft#x", "holds a comment"),
        ("mix(ratio=0.1) # a third", "holds a comment"),
        ("expand(blocks=" + "9" * 400 + ")", "a number of 400 digits"),
    ],
)
def test_settings_outside_their_bounds_are_refused_before_and_after_torch(recipe, words):
    assert words in refusal(recipe)
    assert [words in fault for fault in recipe_faults(recipe)] == [True]


def test_an_own_methods_bounds_are_read_and_its_other_numbers_are_finite(tmp_path):
    body = "bounds = {'a': '(0, 1]'}\ndef __init__(self, a: float = 0.5, b: float = 1.0): pass\ndef rate(self, fraction): return 1.0"
    recipe = idea(tmp_path, body)
    parse_recipe(recipe + "(a=1, b=-7)")
    for settings, words in (
        ("(a=0)", "a must be above 0 and up to 1, not 0.0"),
        ("(b=1e999)", "b must be any number and finite"),
    ):
        assert words in refusal(recipe + settings) and words in recipe_faults(recipe + settings)[0]


def test_words_are_held_against_words_and_numbers_against_numbers():
    assert bound_fault("a", "auto", "[0, 1]") == bound_fault("a", 3, ("auto",)) == bound_fault("a", None, "[0, 1]") == ""
    assert bound_fault("a", "b", ("auto",)) == "a is auto, not 'b'"


# --- other packages --------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Packages outside the project, installed as far as Python can tell: one broken, one no method, one misspelt."""
    (tmp_path / "lethe_others.py").write_text(
        "from harness.contract import Method\nclass Odd(Method):\n    def finnish(self, w, r): ...\n"
    )
    info = tmp_path / "lethe_others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lethe-others\nVersion: 1.0\n")
    (tmp_path / "lethe_leaving.py").write_text("raise SystemExit('no licence')\n")
    points = (
        "broken = lethe_nowhere:X\nnone = json:dumps\nodd = lethe_others:Odd\nleft = lethe_leaving:X\nto o = lethe_others:Odd\n"
    )
    (info / "entry_points.txt").write_text(f"[lethe.methods]\n{points}")
    monkeypatch.syspath_prepend(tmp_path)
    methods.cache_clear()
    yield
    methods.cache_clear()


def test_a_broken_package_concerns_who_names_it_and_nobody_else(installed, capsys):
    assert "sft" in methods() and find_method("sft").__name__ == "Sft" and "broken" not in methods()
    for name, words in (
        ("broken", "method 'broken' of lethe_nowhere:X cannot be loaded: ModuleNotFoundError"),
        ("none", "method 'none' of json:dumps: dumps is no class derived from harness.contract.Method"),
        ("odd", "method 'odd' of lethe_others:Odd: Odd.finnish is no hook, so nothing calls it; did you mean 'finish'?"),
        ("left", "method 'left' of lethe_leaving:X cannot be loaded: SystemExit: no licence"),
    ):
        assert words in refusal(name) and any(words in fault for fault in broken_methods())
    assert any("'to o' of lethe_others:Odd has a name that no recipe can hold" in fault for fault in broken_methods())
    assert main(["recipes"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "low_lr" in text and "method 'broken' of lethe_nowhere:X cannot be loaded" in text


def test_a_package_whose_metadata_cannot_be_read_is_named(tmp_path, monkeypatch):
    info = tmp_path / "lethe_spoilt-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lethe-spoilt\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lethe.methods]\nno equals sign\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PlanError, match="the entry points of lethe-spoilt cannot be read"):
        installed_methods()


# --- what hooks return -----------------------------------------------------------------------------------------------

WRONG = {
    "def token_weights(self, nll, logits, batch): pass": "Idea.token_weights returned None (is a return missing?), and must return a tensor of shape",
    "def token_weights(self, nll, logits, batch): return logits": "Idea.token_weights returned a tensor of shape",
    "def token_weights(self, nll, logits, batch): return nll.mean()": "Idea.token_weights returned a tensor of shape ()",
    "def penalty(self, logits, batch, run): pass": "Idea.penalty returned None",
    "def penalty(self, logits, batch, run): return logits.sum()": "Idea.penalty returned a tensor of shape ()",
    "def share(self, batch): return 'half'": "Idea.share returned a str",
    "def share(self, batch): return torch.ones(1)": "Idea.share returned a tensor of shape (1,)",
    "def pull(self, name, theta, start): return theta.sum()": "Idea.pull returned a tensor of shape (), and must return None or a tensor of shape",
    "def rate(self, fraction): pass": "Idea.rate returned None (is a return missing?), and must return a finite factor",
    "def rate(self, fraction): return float('nan')": "Idea.rate returned nan",
    "def records(self, examples, run): examples.reverse()": "Idea.records returned None",
    "def order(self, examples, run, generator): return iter(examples)": "Idea.order returned a",
    "def stream(self, steps, run): pass": "Idea.stream returned None",
    "def stream(self, steps, run): return ([] for step in steps)": "Idea.stream yielded a list",
    "def split(self, step, run): return step": "Idea.split returned a list",
    "def stop(self, run): pass": "Idea.stop returned None",
    "def rests(self, name, fraction): pass": "Idea.rests returned None",
    "def trainable(self, model, run): model.requires_grad_(True)": "Idea.trainable returned None",
    "def finish(self, weights, run): pass": "Idea.finish returned None",
    "def finish(self, weights, run): return {name: w.flatten() for name, w in weights.items()}": "Idea.finish returned a dict",
    "def finish(self, weights, run): return {'weights': torch.ones(1)}": "Idea.finish returned a dict",
    "def log(self): pass": "Idea.log returned None",
}
"""Hook -> what is said of what it returns."""


@pytest.mark.parametrize("body", WRONG)
def test_a_hook_that_returns_a_wrong_thing_is_named(body, base, tmp_path):
    recipe = idea(tmp_path, body)
    with pytest.raises(HookError) as caught:
        trained(make_run(base, recipe, allowed=2), tmp_path / "run")
    assert WRONG[body] in str(caught.value) and "must" in str(caught.value) and "\n" not in str(caught.value)


def test_every_hook_that_gives_something_is_checked():
    tested = {body.partition("(")[0].removeprefix("def ") for body in WRONG}
    assert tested | {"notes", "state"} == set(RETURNS)


# --- laws ------------------------------------------------------------------------------------------------------------

BROKEN = {
    "trains_inside_the_budget": "def update(self, step, weights, run): [w.fill_(float('nan')) for w in weights.values()]",
    "switched_off_is_plain": "off = {'on': 0.0}\ndef __init__(self, on: float = 1.0): pass\ndef rate(self, fraction): return 0.5",
    "same_seed_same_bits": "def token_weights(self, nll, logits, batch): import random; return nll * random.SystemRandom().random()",
    "resumes_bit_for_bit": "n = 0\ndef rate(self, fraction): self.n += 1; return 1.0 / self.n",
    "states_its_source": "def rate(self, fraction): return 0.5",
}  # fmt: skip


@pytest.mark.parametrize("law", BROKEN)
def test_a_law_that_does_not_hold_is_found(law, base, tmp_path):
    name = idea(tmp_path, BROKEN[law])
    (broken,) = [one for one in LAWS if one.__name__ == law]
    monitored = dict(_verdicts_of(name, base, tmp_path, broken))
    assert monitored[law]


def _verdicts_of(name, base, tmp_path, law):
    """The verdict of one law only, through what the command prints."""
    import harness.runs.laws as laws

    original, laws.LAWS = laws.LAWS, (law,)
    try:
        return [(one.__name__, fault) for one, fault in verdicts(name, Workshop(base, tmp_path))]
    finally:
        laws.LAWS = original


GOOD = """paper = "Made up. @misc{idea, title={Idea}}"
off = {"share": 1.0}
bounds = {"share": "[0, 1]"}
def __init__(self, share: float = 0.5):
    self.share_ = share
def finish(self, weights, run):
    return {name: run.start[name].lerp(tuned, self.share_) for name, tuned in weights.items()}
"""


def test_the_command_prints_what_held(base, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("harness.runs.laws.open_base", lambda _: base)
    monkeypatch.setattr("harness.runs.laws.LAWS", LAWS[:3])
    path = idea(tmp_path, GOOD).rpartition(":")[0]
    assert main(["recipes", "--check", path]) == 0
    text = capsys.readouterr().out
    assert text.count("holds") == 3 and "BROKEN" not in text and f"{path}:Idea:" in text
    idea(tmp_path, GOOD.replace('"share": 1.0', '"share": 0.9'))
    other = tmp_path / "other.py"
    other.write_text((tmp_path / "idea.py").read_text())
    assert main(["recipes", "--check", str(other)]) == 1
    assert "BROKEN  At its `off` settings it is plain fine-tuning" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("target", "words"), [("nowhere.py", "no Python file and no method"), ("nothing.py", "defines no method")]
)
def test_what_cannot_be_checked_is_said(target, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("nothing.py").write_text("x = 1\n")
    assert main(["recipes", "--check", target]) == 2
    assert words in capsys.readouterr().err


def test_all_methods_of_a_file_are_named(tmp_path):
    path = idea(tmp_path, GOOD).rpartition(":")[0]
    assert named(path) == [f"{path}:Idea"] and named("sft") == ["sft"]


def test_a_file_without_its_class_is_told_how_to_name_it():
    with pytest.raises(PlanError, match=r"write the file with its class, idea.py:Class"):
        parse_recipe("idea.py")
