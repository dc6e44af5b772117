"""The same model, sooner computed: Liger's kernels and compiled blocks, in the model they are given to and in no other.

Liger's kernels are Triton's: without a GPU its interpreter runs them, slowly, on the CPU, where `liger-kernel` is installed.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
from functools import partial
from types import ModuleType

os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
import torch

from harness.errors import PlanError
from harness.models import kernels
from harness.models.batches import collate, pack
from harness.models.forward import nll
from harness.models.kernels import ARCHITECTURES, ROTARY, kernels_of, use_liger
from harness.models.packed_attention import use_packing
from harness.plan.load import make_plan
from harness.store.runs import RunFolder
from harness.training.protocol import Training
from tests.support.training import examples, make_run, trained, trained_model


def small(architecture: str):
    """A random model of an architecture: 2 blocks, grouped heads, in fp32."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": 260, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128}
    config = AutoConfig.for_model(architecture, **sizes, **heads, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).float().train()


def outcome(model, batch):
    """(losses, logits, gradients by parameter)."""
    losses, logits = nll(model, batch)
    losses.sum().backward()
    return losses.detach(), logits.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_alike(one, two) -> None:
    assert torch.allclose(one[0], two[0], atol=1e-4) and torch.allclose(one[1], two[1], atol=1e-4)
    assert one[2].keys() == two[2].keys() and one[2]
    for name in one[2]:
        assert torch.allclose(one[2][name], two[2][name], rtol=1e-4, atol=1e-4), name


# --- Liger ---


@pytest.fixture
def interpreter(monkeypatch):
    """Triton's, with two gaps filled: it hands floats over as Python's own, and knows no function of CUDA's library."""
    pytest.importorskip("liger_kernel")
    import liger_kernel.ops.rms_norm
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    convert = interpreter._implicit_cvt

    def converted(value):
        if isinstance(value, float):
            return tl.tensor(interpreter.TensorHandle(np.array([value], np.float32), tl.float32), tl.float32)
        return convert(value)

    monkeypatch.setattr(interpreter, "_implicit_cvt", converted)
    monkeypatch.setattr(liger_kernel.ops.rms_norm, "rsqrt", lambda x: tl.math.rsqrt(x))  # patched when it is called


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "packed"), [*((name, False) for name in ARCHITECTURES), ("qwen3", True)])
def test_they_compute_what_the_plain_layers_do(architecture, packed, interpreter):
    batch = (pack if packed else collate)(examples(2))
    models = [small(architecture) for _ in range(2)]
    for model in models if packed else ():
        use_packing(model)
    use_liger(models[1])
    assert_alike(outcome(models[0], batch), outcome(models[1], batch))


@pytest.mark.slow
def test_adapters_are_wrapped_around_them(base, interpreter):
    outcomes = []
    for name in ("plain", "liger"):
        run = make_run(base, "lora", kernels=name)
        outcomes.append(outcome(run.wrap(run.load()).model.train(), collate(examples(2))))
    assert_alike(*outcomes)


@pytest.fixture
def stand_in(monkeypatch):
    """A package that does to an architecture's module what Liger's does; gives the number of rotations it was asked for."""
    from transformers.models.qwen3 import modeling_qwen3

    asked, plain = [], getattr(modeling_qwen3, ROTARY)

    def rotate(*inputs):
        asked.append(1)
        return plain(*inputs)

    def apply(model, **parts):
        assert {part for part, on in parts.items() if on} == {"rope", "rms_norm", "swiglu"}
        setattr(modeling_qwen3, ROTARY, rotate)
        modeling_qwen3.Qwen3RMSNorm = torch.nn.Identity

    package = ModuleType("liger_kernel.transformers")
    package._apply_liger_kernel_to_instance = apply
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", package)
    return asked


def test_no_other_model_gets_them(stand_in):
    before = small("qwen3")
    model, batch = small("qwen3"), collate(examples(2))
    use_liger(model)
    assert_alike(outcome(before, batch), outcome(model, batch))
    assert len(stand_in) == 2, "once a block, of this model"
    after = small("qwen3")
    outcome(after, batch)
    assert len(stand_in) == 2 and type(after.model.norm).__name__ == "Qwen3RMSNorm"
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in after.named_parameters()]


def test_a_run_loads_its_model_with_them_and_is_priced_without(base, stand_in):
    plain, liger = (make_run(base, "sft", kernels=name) for name in ("plain", "liger"))
    batch = collate(examples(2))
    nll(plain.load(), batch)
    assert not stand_in
    nll(liger.load(), batch)
    assert len(stand_in) == 2
    assert liger.price("train", True) == plain.price("train", True) and len(stand_in) == 2


@pytest.mark.parametrize(
    ("asked", "device", "architecture", "installed", "chosen"),
    [
        (None, "cuda", "qwen3", True, "liger"),
        (None, "cuda", "qwen3", False, "plain"),
        (None, "cuda", "gpt_neox", True, "plain"),
        (None, "cpu", "qwen3", True, "plain"),
        ("plain", "cuda", "qwen3", True, "plain"),
        ("liger", "cuda:1", "llama", True, "liger"),
    ],
)
def test_ligers_are_taken_on_a_gpu_that_has_them(asked, device, architecture, installed, chosen, monkeypatch):
    monkeypatch.setattr(kernels, "find_spec", lambda name: installed or None)
    assert kernels_of(asked, device, architecture) == chosen


def test_what_cannot_be_had_is_refused_with_every_reason(monkeypatch):
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    with pytest.raises(PlanError) as caught:
        kernels_of("liger", "cpu", "gpt_neox")
    assert [words in fault for words, fault in zip(("cpu", "pip install", "qwen3"), caught.value.faults, strict=True)] == [
        True
    ] * 3


# --- compiled blocks ---

torch_warns_itself = pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf", "ignore:.torch.jit.script_method. is deprecated"
)
"""What compiling does inside torch."""


@torch_warns_itself
@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "changes"), [("lora(dropout=0.2)", {}), ("sft", {"checkpointing": True})])
def test_compiled_blocks_train_as_plain_ones_do(recipe, changes, base, tmp_path, monkeypatch):
    """Whatever the recipe adds and whatever the shapes of its batches; without the code generator, which takes a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    logs, names = [], []
    for compiled in (False, True):
        run = make_run(base, recipe, compile=compiled, **changes)
        trained(run, tmp_path / str(compiled))
        logs.append(RunFolder(tmp_path / str(compiled)).log())
        names.append([name for name, _ in trained_model(run).named_parameters()])
    assert names[0] == names[1]
    for one, two in zip(*logs, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-4)


def test_scores_are_those_of_plain_blocks(base, monkeypatch):
    called = []
    monkeypatch.setattr(torch, "compile", lambda plain, dynamic: lambda *a, **k: called.append(dynamic) or plain(*a, **k))
    model = base.load(torch.float32).train()
    kernels.compile_blocks(model, longest=24, room=240)
    assert called == [True] * 10, "two blocks; 2, 1, 4, 8 and 10 rows"
    assert all(p.grad is None for p in model.parameters())
    nll(model.eval(), collate(examples(2)))
    assert len(called) == 10


@torch_warns_itself
@pytest.mark.slow
def test_compiled_code_gives_the_same_losses(base, tmp_path):
    logs = []
    for compiled in (False, True):
        trained(make_run(base, "sft", compile=compiled), tmp_path / str(compiled))
        logs.append(RunFolder(tmp_path / str(compiled)).log())
    assert [e["loss"] for e in logs[1]] == pytest.approx([e["loss"] for e in logs[0]], rel=1e-4)


@pytest.mark.parametrize("other", [{"deepspeed": "zero2"}, {"pack_length": 64}, {"mode": "cpt"}])
def test_what_compile_does_not_go_with_is_refused(other):
    with pytest.raises(PlanError, match="compile"):
        make_plan({"compile": True} | other)


# --- the question ---


def test_a_question_names_them_only_where_they_are_used():
    plain = Training(1e-3, 8, 96, 0.1, "cosine", 0.0, 1.0, "float32")
    known = "learning_rate batch_size micro_tokens warmup decay weight_decay clip precision pack_length checkpointing"
    assert list(plain.question) == known.split(), "so that stored runs keep their names"
    fast = Training(1e-3, 8, 96, 0.1, "cosine", 0.0, 1.0, "float32", kernels="liger", compile=True)
    assert fast.question == plain.question | {"kernels": "liger", "compile": True}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another library of C, which is left as it is")
def test_memory_that_a_step_freed_is_not_asked_of_the_system_again():
    kernels.keep_freed_memory()
    faults = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**24)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert faults[-1] < 100, faults  # 64 MB are 16,384 pages
