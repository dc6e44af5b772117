"""Plans and recipes: what is refused, and how it is said."""

from __future__ import annotations

import dataclasses

import pytest

from harness.bundled import embedded
from harness.errors import PlanError
from harness.plan.load import make_plan, resolve_places
from harness.plan.plan import DEFAULT_BUDGET, Plan, split_recipes
from harness.recipes.recipe import parse_recipe


def faults(options, file=None) -> str:
    with pytest.raises(PlanError) as caught:
        make_plan(options, file)
    return str(caught.value)


def test_all_faults_at_once():
    text = faults({"batch_size": 0, "meter": "joules", "warmup": 1.5, "recieps": "sft"})
    assert all(word in text for word in ("batch_size must be 1 or more", "joules", "warmup", "did you mean 'recipes'?"))


def test_toml_file_and_flags_win_over_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "plan.toml").write_text('data = "a.json"\nrecipes = ["sft", "mix(ratio=0.3)"]\nbudget = "1epochs"\nclip = 2\n')
    plan = make_plan({"budget": "2epochs"}, str(tmp_path / "plan.toml"))
    assert (plan.data, plan.recipe_texts, plan.budget, plan.clip) == ("a.json", ["sft", "mix(ratio=0.3)"], "2epochs", 2.0)


def test_toml_of_wrong_types_or_syntax(tmp_path):
    (tmp_path / "plan.toml").write_text('seeds = "three"\n')
    assert "seeds takes int, not 'three'" in faults({}, str(tmp_path / "plan.toml"))
    (tmp_path / "plan.toml").write_text("seeds = = 3")
    assert "not TOML" in faults({}, str(tmp_path / "plan.toml"))
    assert "does not exist" in faults({}, str(tmp_path / "absent.toml"))


def test_a_flag_may_stand_alone_or_with_its_value():
    from harness.commands.parsing.parser import make_parser

    given = [
        make_parser().parse_args(["plan", *words])
        for words in (["--gradient-checkpointing"], ["--gradient-checkpointing", "false"])
    ]
    assert [options.gradient_checkpointing for options in given] == [True, False]
    assert make_plan({"gradient_checkpointing": True}).gradient_checkpointing


def test_recipes_split_at_spaces_outside_parentheses():
    assert split_recipes("sft  mix(ratio=0.3, )+lora(r=4, alpha=8.0) ewc") == [
        "sft",
        "mix(ratio=0.3, )+lora(r=4, alpha=8.0)",
        "ewc",
    ]


def test_bundled_data_brings_its_test_file_and_the_embedded_model():
    plan = resolve_places(Plan())
    assert plan.test and plan.test.endswith("finance.test.json") and plan.general and plan.name == "finance"


def test_the_embedded_budget_is_for_its_own_base_alone():
    budgets = {model: resolve_places(Plan(model=model, suites="x")).budget for model in (None, "some/model-1b")}
    assert budgets == {None: embedded().budget, "some/model-1b": DEFAULT_BUDGET} and embedded().budget != DEFAULT_BUDGET
    assert resolve_places(Plan(budget="5steps")).budget == "5steps"  # what the user asks is kept

    # The option's help and the page of options say both.
    about = next(field.metadata["help"] for field in dataclasses.fields(Plan) if field.name == "budget")
    assert f"default: {DEFAULT_BUDGET}, and {embedded().budget} with the embedded base" in about


def test_a_model_of_ones_own_gets_no_embedded_pool():
    plan = resolve_places(Plan(model="some/model-1b", suites="x"))
    assert plan.general is None and plan.name == "finance-model-1b"


@pytest.mark.parametrize(
    "recipe, words",
    [
        ("sfft", "did you mean 'sft'?"),
        ("mix(ration=0.3)", "mix has no setting 'ration'"),
        ("mix(ratio='much')", "takes float, not 'much'"),
        ("lora(r=True)", "takes int, not True"),
        ("mix(ratio=1.5)", "ratio must be from 0 to below 1"),
        ("mix(0.3)", "write name or name(setting=value)"),
        ("mix+", "not understood"),
        ("mix(ratio=__import__('os'))", "not a plain value"),
        ("lora(lr=1e-3)+nlirg(lr=1e-3)", "lr is given 2 times"),
    ],
)
def test_bad_recipes_say_what_and_how(recipe, words):
    with pytest.raises(PlanError, match="(?s)" + words.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")):
        parse_recipe(recipe)


def test_a_learning_rate_in_the_recipe():
    assert parse_recipe("lora(lr=2e-3)+nlirg").learning_rate == 2e-3


def test_a_methods_source_is_part_of_its_question():
    (entry,) = parse_recipe("mix").question
    assert entry["settings"]["ratio"] == 0.15 and len(entry["source"]) == 16


def test_track_follows_the_need_of_general_data():
    assert parse_recipe("lora+mix").track == "general"
    assert parse_recipe("mix(ratio=0.0)").track == "free"


def test_checkpoints_and_decay_are_checked():
    assert make_plan({"checkpoints": "1,0.5"}).checkpoint_fractions == (0.5, 1.0)
    for wrong in ("half", "0,1", "1.5"):
        with pytest.raises(PlanError, match="checkpoints are fractions of the budget"):
            make_plan({"checkpoints": wrong})
    with pytest.raises(PlanError, match="decay is cosine, linear or constant, not 'step'"):
        make_plan({"decay": "step"})


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("learning_rate", NAN, "learning_rate must be above 0 and finite, not nan"),
        ("learning_rate", INFINITE, "learning_rate must be above 0 and finite, not inf"),
        ("clip", NAN, "clip must be above 0"),
        ("clip", INFINITE, "clip must be above 0"),
        ("weight_decay", NAN, "weight_decay must be 0 or more"),
        ("weight_decay", INFINITE, "weight_decay must be 0 or more"),
        ("warmup", NAN, "warmup must be from 0 to below 1"),
        ("keep", NAN, "keep must be 0 or more"),
        ("checkpoint_every", NAN, "checkpoint_every must be 0 or more"),
        ("gpus_per_run", NAN, "gpus_per_run must be above 0"),
        ("gpus_per_run", INFINITE, "gpus_per_run must be above 0"),
        ("seeds", 1_000_000, "seeds must be from 1 to 1000"),
        ("tune", 1_000_000, "tune must be from 0 to 1000"),
        ("device", "tpu", "device is cpu or cuda, not 'tpu'"),
        ("name", "../../x", "name '../../x' is to be the name of a folder"),
        ("name", "/an/absolute/path", "is to be the name of a folder"),
        ("name", ".", "is to be the name of a folder"),
        ("name", "", "is to be the name of a folder"),
        ("name", "a\\b", "is to be the name of a folder"),
        ("name", "a\x1b[2J", "is to be the name of a folder"),
        ("name", "runs", "name 'runs' is taken"),
        ("name", "n" * 300, "too long"),
        ("require", "seconds=" + "9" * 400, "no finite number"),
    ],
)
def test_numbers_and_names_that_nothing_can_be_done_with(option, value, words):
    assert words in faults({option: value})


def test_numbers_at_their_ends_are_taken():
    plan = make_plan({"device": "cuda:1", "keep": INFINITE, "name": "ünser Modell-1.5b", "weight_decay": 0.0, "seeds": 1000})
    assert plan.name == "ünser Modell-1.5b"


@pytest.mark.parametrize("budget", ["1e999epochs", "1e999flops", "9e300Psteps", "1e9epochs"])
def test_a_budget_that_never_ends_is_refused(budget):
    from harness.plan.values import parse_budget

    with pytest.raises(PlanError, match="budget"):
        parse_budget(budget)


@pytest.mark.parametrize(
    ("interval", "inside", "outside", "said"),
    [
        ("(0, inf)", [1e-9, 1e300], [0, -1, NAN, INFINITE], "above 0"),
        ("[0, 1]", [0, 1, 0.5], [-1e-9, 1.1, NAN], "from 0 to 1"),
        ("[0, 1)", [0, 0.99], [1, NAN], "from 0 to below 1"),
        ("(0, 1]", [0.1, 1], [0, 1.1], "above 0 and up to 1"),
        ("[2, inf)", [2], [1, INFINITE], "2 or more"),
        ("[0, inf]", [INFINITE], [NAN, -1], "0 or more"),
    ],
)
def test_intervals(interval, inside, outside, said):
    from harness.text.bounds import read_interval

    read = read_interval(interval)
    assert all(value in read for value in inside) and not any(value in read for value in outside) and str(read) == said
