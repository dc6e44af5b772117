"""Memory and time from a model's shape: what is predicted is what is measured, and what is chosen fits."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from harness.errors import PlanError
from harness.estimates.memory import Sizer, Way
from harness.estimates.ways import Decided, choose, fitting_way, planned_way, sizer_of
from harness.models.device_memory import peak_memory, reset_peak_memory
from harness.models.flops import Shape
from harness.plan.gpus import GPUS, Gpu
from harness.plan.load import PRESETS, make_plan
from harness.plan.plan import Plan
from harness.recipes.recipe import parse_recipe
from tests.support.fresh import fresh

SHAPES = {
    "Qwen/Qwen2.5-1.5B-Instruct": ("Qwen2", 1536, 8960, 28, 12, 2, 151936, True),
    "Qwen/Qwen2.5-7B-Instruct": ("Qwen2", 3584, 18944, 28, 28, 4, 152064, False),
    "Qwen/Qwen3-8B": ("Qwen3", 4096, 12288, 36, 32, 8, 151936, False),
}
"""Architecture, width, feed-forward width, blocks, heads, key-value heads, vocabulary, head tied: of published models."""


def shape_of(folder: Path, kind: str, sizes: tuple[int, ...], tied: bool) -> str:
    """A folder with a model's configuration alone."""
    import transformers

    names = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
    )
    config = getattr(transformers, f"{kind}Config")(**dict(zip(names, sizes, strict=True)), tie_word_embeddings=tied)
    if kind == "Qwen3":
        config.head_dim = 128 if sizes[0] >= 1024 else sizes[0] // sizes[3]
    config.architectures = [f"{kind}ForCausalLM"]
    config.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> str:
    return shape_of(tmp_path_factory.mktemp("small"), "Qwen3", (128, 384, 4, 4, 2, 512), True)


def test_sharding_divides_what_it_says(small):
    size = Sizer(small, parse_recipe("sft"), "bfloat16", 64, "cuda")
    parameters = size.parameters
    alone, two, three = (size.size(Way(512, False, stage, False, 4)) for stage in (0, 2, 3))
    assert (alone.weights, two.weights, three.weights) == (2 * parameters, 2 * parameters, parameters / 2)
    assert (alone.states, two.states, three.states) == (16 * parameters, 4 * parameters, 4 * parameters)
    assert (alone.gradients, two.gradients, three.gradients) == (2 * parameters, 2 * parameters, parameters / 2)
    assert size.size(Way(512, False, 2, True, 4)).states == 0


def test_adapters_and_teachers_are_seen(small):
    sizes = {
        text: Sizer(small, parse_recipe(text), "bfloat16", 64, "cuda") for text in ("sft", "lora", "distill", "ewc", "l2sp")
    }
    assert sizes["lora"].trained < 0.1 * sizes["sft"].trained
    way = Way(512)
    assert sizes["distill"].size(way).weights == 2 * sizes["sft"].size(way).weights
    assert sizes["ewc"].size(way).states - sizes["sft"].size(way).states == 8 * sizes["ewc"].parameters
    for text, held in {"a_gem": 1, "a_gem(ratio=0)": 0, "mofo": 2, "si_multi": 5}.items():
        size = Sizer(small, parse_recipe(text), "bfloat16", 64, "cuda")
        assert size.size(way).states - sizes["sft"].size(way).states == 4 * held * size.trained, text
    assert sizes["l2sp"].size(way).states - sizes["sft"].size(way).states == 4 * sizes["l2sp"].parameters


def test_the_base_must_fit_whole_before_it_is_cut_into_parts(small):
    sizes = {
        text: Sizer(small, parse_recipe(text), "bfloat16", 8, "cuda").size(Way(8, True, 3, True, 64)) for text in ("sft", "ewc")
    }
    parameters = Sizer(small, parse_recipe("sft"), "bfloat16", 8, "cuda").parameters
    assert sizes["sft"].bytes >= sizes["sft"].whole == 2 * parameters
    assert sizes["ewc"].bytes >= sizes["ewc"].whole == (2 + 2 + 4) * parameters
    assert not sizes["ewc"].fits(Gpu(7 * parameters / 0.9, 1e12))


def test_the_least_way_that_fits_is_chosen(small):
    size = Sizer(small, parse_recipe("sft"), "bfloat16", 256, "cuda")
    ways = [Way(8192), Way(512, True), Way(256, True, 3, False, 4)]
    found = []
    for way in ways:
        room = Gpu(size.size(way).bytes / 0.9 * 1.001, 1e12)
        found.append(choose([size], room, way.gpus, Decided()))
        assert size.size(found[-1]).fits(room)
    assert found[0].micro_tokens >= 8192 and not found[0].checkpointing
    assert found[2].stage in (2, 3) or found[2].gpus == 1
    with pytest.raises(PlanError, match="does not fit in 0 GB x 1"):
        choose([size], Gpu(1e5, 1e12), 1, Decided())
    assert choose([size], GPUS["h200"], 4, Decided(512, None, "zero3")).stage == 3


def test_what_is_given_is_kept(small):
    plan = Plan(
        model=small, gpu="h200", precision="bfloat16", max_length=64, micro_tokens=2048, deepspeed="zero2", gpus_per_run=2
    )
    way = fitting_way(plan, [parse_recipe("sft")])
    assert (way.micro_tokens, way.deepspeed) == (2048, "zero2")
    assert way == planned_way(dataclasses.replace(plan, gradient_checkpointing=way.checkpointing))


def memory_of_a_step(path: str, rows: int, length: int) -> int:
    """Resident memory of a training step on a CPU, where attention keeps its weights: its peak less what was held before."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from harness.contract import Example
    from harness.losses.step_sums import StepSums
    from harness.models.base_model import BaseModel
    from harness.training.ledger import Ledger
    from harness.training.protocol import Training, TrainingData
    from harness.training.run import PlannedRun
    from harness.training.step import loss_of
    from tests.support.training import in_training

    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path), attn_implementation="eager").train()
    training = Training(1e-3, rows, rows * length, 0.0, "constant", 0.0, 1.0, "float32")
    base = BaseModel(path, None, "", 0, length)
    planned = PlannedRun(base, TrainingData((), ()), (), training, Ledger("steps", 1.0), 0)
    planned.start = {}
    run = in_training(planned, model)
    (batch,) = run.batches([Example(str(row), (1,) * length, (True,) * length) for row in range(rows)])
    here = torch.device("cpu")
    reset_peak_memory(here)
    before = peak_memory(here)
    loss_of(run, batch, StepSums()).backward()
    return peak_memory(here) - before


@pytest.mark.parametrize("vocabulary", [512, 16384])
def test_memory_is_what_is_predicted(vocabulary, tmp_path):
    """Whether the head is small beside the blocks, or large and in pieces."""
    path = shape_of(tmp_path, "Qwen3", (128, 384, 4, 4, 2, vocabulary), True)
    sizer = Sizer(path, parse_recipe("sft"), "float32", 256, "cpu")
    measured = fresh(memory_of_a_step, path, 32, 256)
    size = sizer.size(Way(8192), squares=True)
    predicted = size.blocks + max(size.head + size.head_gradients, size.gradients)
    assert predicted == pytest.approx(measured, rel=0.25), (predicted, measured)


@pytest.mark.parametrize(("recipe", "times"), [("sft", 10), ("distill", 10), ("talr", 4)])
def test_a_large_vocabulary_is_held_in_pieces(recipe, times, tmp_path):
    """Ten times less than the whole, for a head of 4,096 by 151,936; four times where weights need all losses first."""
    path = shape_of(tmp_path, "Qwen3", (4096, 64, 1, 32, 8, 151936), False)
    sizer = Sizer(path, parse_recipe(recipe), "bfloat16", 1024, "cuda")
    whole = sizer.head_bytes(sizer.places_at_once) / sizer.places_at_once * 8192
    assert sizer.head_bytes(8192) < whole / times


def test_what_this_data_needs_is_at_most_the_worst_case(small):
    sizer = Sizer(small, parse_recipe("sft"), "bfloat16", 256, "cpu")
    way = Way(8192)
    worst = sizer.size(way)
    needed = sizer.size(way, [Shape(2, 100, 20), Shape(8, 200, 300), Shape(1, 256, 10)])
    assert needed == sizer.size(way, [Shape(8, 200, 300)]) and needed.bytes < worst.bytes
    assert sizer.size(way, [sizer.longest(way)]) == worst


@pytest.mark.slow
@pytest.mark.parametrize("preset", sorted(p.stem for p in PRESETS.glob("*.toml") if "\ngpu =" in p.read_text()))
def test_presets_fit_their_hardware(preset, tmp_path):
    plan = make_plan({}, preset)
    kind, *sizes, tied = SHAPES[str(plan.model)]
    path = shape_of(tmp_path, kind, tuple(sizes), tied)
    plan = dataclasses.replace(plan, model=path, precision="bfloat16", max_length=plan.max_length or 2048)
    recipes = [parse_recipe(text) for text in plan.recipe_texts]
    way = fitting_way(plan, recipes)
    sizer = sizer_of(plan, recipes[0])
    billions = {"16gb": 1.54, "24gb": 7.62, "4xa100": 8.19}[preset]
    assert sizer.parameters / 1e9 == pytest.approx(billions, abs=0.01)
    assert sizer.size(way).fits(GPUS[str(plan.gpu)])
    print(json.dumps({"preset": preset, "way": dataclasses.asdict(way), "size": dataclasses.asdict(sizer.size(way))}))
