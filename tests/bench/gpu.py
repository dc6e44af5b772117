"""`make bench-gpu`: full fine-tuning and LoRA of Qwen3 shapes by our loop and by TRL's SFTTrainer, on the GPU at hand.

It fills the table of docs/gpu.md.

Random weights: speed does not know the difference. Each measurement has a process of its own. The same documents (of L/4 to L
tokens, all supervised), about `STEP` tokens an optimizer step in micro-batches of `MICRO`, bf16 compute over fp32 masters, the
same adapters, kernels and checkpointing. Documents lie end to end: with us each attends to itself alone; TRL does that where
flash-attn is installed (`bfd`), and elsewhere cuts rows out of the stream of tokens (`wrapped`), its fastest without.

Tokens a second are over all steps but the first two, the device synchronised before each reading of the clock. The fraction
of the peak counts the FLOPs of the model by its shape (`harness/models/flops.py`), without what checkpointing computes again.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import torch

from harness.bundled import ROOT
from harness.contract import Example
from harness.models.base_model import BaseModel
from harness.models.device_memory import peak_memory
from harness.models.flops import Shape
from harness.models.kernels import kernels_of
from harness.plan.gpus import GPUS
from harness.recipes.recipe import parse_recipe
from harness.store.provenance import where
from harness.training.ledger import Ledger, clock
from harness.training.loop import train
from harness.training.protocol import Training, TrainingData
from harness.training.run import PlannedRun
from harness.workers.environment import set_environment

SHAPES = {
    "0.6B": (151936, 1024, 3072, 28, 16, 8, 128, True),
    "1.7B": (151936, 2048, 6144, 28, 16, 8, 128, True),
    "8B": (151936, 4096, 12288, 36, 32, 8, 128, False),
    "tiny": (512, 64, 128, 2, 4, 2, 16, True),
}
"""Vocabulary, width, feed-forward width, blocks, heads, key-value heads, head size, head tied: as Qwen3's are published."""
FIELDS = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
FIELDS += ("head_dim", "tie_word_embeddings")
NAMES = {
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H200": "h200",
    "NVIDIA B200": "b200",
    "NVIDIA A100-SXM4-40GB": "a100-40",
    "NVIDIA A100-SXM4-80GB": "a100-80",
    "NVIDIA A100 80GB PCIe": "a100-80",
    "NVIDIA L40S": "l40s",
    "NVIDIA GeForce RTX 4090": "4090",
}
"""What CUDA calls a GPU -> its name in harness/plan/gpus.py. The peak of any other one is not guessed."""
MICRO, STEP = 8192, 32768
SKIPPED = 2
"""Steps before the clock counts: memory is allocated and kernels are chosen in them."""
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


@dataclass(frozen=True)
class Case:
    """One measurement."""

    side: str
    """`ours` or `trl`."""
    shape: str
    recipe: str
    """`sft` or `lora`."""
    length: int
    """Tokens of the longest documents."""
    steps: int
    compile: bool = False

    @property
    def micro(self) -> int:
        return MICRO if self.shape != "tiny" else 4 * self.length

    @property
    def step(self) -> int:
        return STEP // MICRO * self.micro

    @property
    def checkpointing(self) -> bool:
        return self.shape == "8B"


class RandomBase(BaseModel):
    """A base of which there is a configuration only."""

    def original(self, dtype: torch.dtype) -> Any:
        return self.load(dtype)

    def load(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> Any:
        from transformers import AutoConfig, AutoModelForCausalLM

        with torch.device(device):
            return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(self.path), dtype=dtype).eval()


def base_of(shape: str, folder: str) -> RandomBase:
    from transformers import Qwen3Config

    config = Qwen3Config(**dict(zip(FIELDS, SHAPES[shape], strict=True)))
    config.architectures = ["Qwen3ForCausalLM"]
    config.save_pretrained(folder)
    return RandomBase(folder, None, "", 0, 1_000_000)


def documents(case: Case) -> list[Example]:
    """Enough for all steps, of a quarter to the whole length, from a seed."""
    rng, made, wanted = random.Random(0), [], case.step * (case.steps + 1)
    while wanted > 0:
        n = rng.randrange(case.length // 4, case.length + 1)
        tokens = tuple(rng.randrange(SHAPES[case.shape][0]) for _ in range(n))
        made.append(Example(f"{len(made)}", tokens, (False, *[True] * (n - 1)), "domain"))
        wanted -= n
    return made


def run_of(case: Case, base: BaseModel, device: str, checkpointing: bool) -> PlannedRun:
    """A run whose steps have about `case.step` tokens."""
    several = documents(case)
    batch = round(case.step * len(several) / sum(map(len, several)))
    fast = {"kernels": kernels_of(None, device, "qwen3"), "compile": case.compile, "checkpointing": checkpointing}
    packed = None if case.compile else case.micro
    training = Training(1e-5, batch, case.micro, 0.0, "constant", 0.0, 1.0, "bfloat16", packed, **fast)
    data, methods = TrainingData(tuple(several), ()), parse_recipe(case.recipe).methods
    return PlannedRun(base, data, methods, training, Ledger("steps", float(case.steps)), 0, device)


def ours(case: Case, run: PlannedRun) -> tuple[int, float]:
    """(tokens, seconds) of the steps that count."""
    set_environment()  # this and the next two as in every run
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    times, tokens = [], []

    def report(entry: dict[str, Any]) -> None:
        times.append(clock(run.device))
        tokens.append(entry["tokens"])

    with tempfile.TemporaryDirectory() as folder:
        train(run, Path(folder), lambda *_: None, report, looks=())
    return sum(tokens[SKIPPED:]), times[-1] - times[SKIPPED - 1]


def trl(case: Case, run: PlannedRun) -> tuple[int, float]:
    """The same of TRL's SFTTrainer; fp32 weights under bf16 autocast, an adapter's base in bf16."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            times.append(clock(run.device))

    flash = find_spec("flash_attn") is not None
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            max_steps=case.steps,
            packing=True,
            packing_strategy="bfd" if flash else "wrapped",
            max_length=case.length,
            per_device_train_batch_size=case.micro // case.length,
            gradient_accumulation_steps=case.step // case.micro,
            gradient_checkpointing=case.checkpointing,
            use_liger_kernel=run.training.kernels == "liger",
            torch_compile=case.compile,
            optim="adamw_torch_fused",
            bf16=True,
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
            use_cpu=run.device.type == "cpu",
            disable_tqdm=True,
        )
        adapter: Any = getattr(run.empty(), "peft_config", {}).get("default")
        model = run.base.load(torch.bfloat16 if adapter else torch.float32, run.device)
        model.set_attn_implementation("flash_attention_2" if flash else "sdpa")
        rows = Dataset.from_list([{"input_ids": list(e.tokens)} for e in run.data.domain])
        Trainer: Any = SFTTrainer
        trainer = Trainer(
            model=model, args=config, train_dataset=rows, processing_class=stand_in(), peft_config=adapter, callbacks=[Clock()]
        )
        trainer.train()
    return (len(times) - SKIPPED) * case.step, times[-1] - times[SKIPPED - 1]


def stand_in() -> Any:
    """A tokenizer that nothing is read by."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>")


def measure(case: Case) -> dict[str, Any]:
    """Tokens a second, model FLOPs a token, peak memory in bytes, the kernels in use, and tokens a micro-batch at the end."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        base = base_of(case.shape, folder)
        run, plain = (run_of(case, base, device, again) for again in (case.checkpointing, False))
        step = list(run.data.domain[: run.batch_size])
        price = plain.price("train", True)
        flops = sum(price.of(Shape.packed(group, "cuda")) for group in run.groups(step)) / sum(map(len, step))
        tokens, seconds = {"ours": ours, "trl": trl}[case.side](case, run)
    found = {"tokens_a_second": tokens / seconds, "flops_a_token": flops, "memory": peak_memory(run.device)}
    return found | {"kernels": run.training.kernels, "micro": run.position.room}


def measured_apart(case: Case) -> dict[str, Any]:
    """`measure` in a process of its own; what went wrong where it failed."""
    command = [sys.executable, "-m", "tests.bench.gpu", "--one", json.dumps(vars(case))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    memory = "out of memory" in done.stderr.lower()
    return {"failed": "does not fit" if memory else (done.stderr.splitlines() or ["ended without a word"])[-1]}


def table(found: list[tuple[Case, dict[str, Any]]], gpu: str | None) -> list[str]:
    """A line a measurement; what is not known is missing."""
    peak = GPUS[NAMES[gpu]].flops if gpu in NAMES else None
    lines = ["| shape | recipe | documents to | side | kernels | tokens/s | of the peak | peak memory, GB |", "|" + "---|" * 8]
    for case, figures in found:
        head = f"| {case.shape} | {case.recipe} | {case.length} | {case.side} |"
        if "failed" in figures:
            lines.append(f"{head}  | {figures['failed']} |  |  |")
            continue
        speed = figures["tokens_a_second"]
        share = f"{speed * figures['flops_a_token'] / peak:.0%}" if peak else ""
        kernels = figures["kernels"] + (", compiled" if case.compile else "")
        kernels += f", micro-batches of {figures['micro']} (memory ran out)" if figures["micro"] < case.micro else ""
        lines.append(f"{head} {kernels} | {speed:,.0f} | {share} | {figures['memory'] / 1e9:.1f} |")
    return lines


def write_page(page: Path, found: list[tuple[Case, dict[str, Any]]], command: str) -> None:
    """Put the table, and where it comes from, between the page's marks."""
    place = where()
    gpu = place["machine"]["gpu"]
    packages = ", ".join(f"{name} {place['packages'][name]}" for name in ("torch", "transformers", "peft"))
    machine = f"{gpu or place['machine']['processor']}; {packages}; commit {place['git']['commit']}"
    text = page.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    body = [BEGIN, "", f"`{command}` on {machine}.", "", *table(found, gpu), "", END]
    page.write_text(before + "\n".join(body) + after, encoding="utf-8")


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["0.6B", "1.7B", "8B"])
    parser.add_argument("--recipes", nargs="+", choices=("sft", "lora"), default=["sft", "lora"])
    parser.add_argument("--lengths", nargs="+", type=int, default=[512, 2048])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--compile", action="store_true", help="both sides compiled; ours is then padded, not packed")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "gpu.md")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if asked.one:
        print(json.dumps(measure(Case(**asked.one))))
        return
    found = []
    for shape, recipe, length, side in product(asked.shapes, asked.recipes, asked.lengths, ("ours", "trl")):
        case = Case(side, shape, recipe, length, asked.steps, asked.compile)
        found.append((case, measured_apart(case)))
        print(case, found[-1][1], flush=True)
    write_page(asked.page, found, " ".join(["python -m tests.bench.gpu", *words]))


if __name__ == "__main__":
    main(sys.argv[1:])
