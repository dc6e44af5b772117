"""Plans and recipes: what is refused, and how it is said."""

from __future__ import annotations

import pytest

from harness.errors import PlanError
from harness.plan import Plan, make_plan, resolve_places, split_recipes
from harness.recipes import parse_recipe


def faults(options, file=None) -> str:
    with pytest.raises(PlanError) as caught:
        make_plan(options, file)
    return str(caught.value)


def test_all_faults_at_once():
    text = faults({"batch_size": 0, "meter": "joules", "warmup": 1.5, "recieps": "sft"})
    assert all(word in text for word in ("batch_size must be above 0", "joules", "warmup", "did you mean 'recipes'?"))


def test_toml_file_and_flags_win_over_it(tmp_path):
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
    from harness.cli import _parser

    given = [
        _parser().parse_args(["plan", *words])
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


def test_a_model_of_ones_own_gets_no_embedded_pool():
    plan = resolve_places(Plan(model="some/model-1b", suites="x"))
    assert plan.general is None and plan.name == "finance-model-1b"


@pytest.mark.parametrize(
    "recipe, words",
    [
        ("sfft", "did you mean sft?"),
        ("mix(ration=0.3)", "mix has no setting 'ration'"),
        ("mix(ratio='much')", "takes float, not 'much'"),
        ("lora(r=True)", "takes int, not True"),
        ("mix(ratio=1.5)", "ratio is a share"),
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
