"""`python -m tests.bench.head_memory`: peak memory of one optimizer step on a CPU, with the head whole and in pieces.

The model has random weights in the shape of SmolLM2-135M (a vocabulary of 49,152, the head tied), unless a folder is named.
Every token is supervised. Beside what was measured stands what `lethe plan` predicts for the same micro-batch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from harness.contract import Example
from harness.estimates.memory import Sizer, Way
from harness.models.base_model import BaseModel
from harness.models.device_memory import held_memory, peak_memory, reset_peak_memory
from harness.models.flops import Shape
from harness.models.short_documents import SHORT
from harness.recipes.recipe import parse_recipe
from harness.training.ledger import Ledger
from harness.training.loop import train
from harness.training.protocol import Training, TrainingData
from harness.training.run import PlannedRun
from tests.support.fresh import fresh

CPU = torch.device("cpu")
WHOLE = 10**15
"""Numbers in one piece's logits: all there are."""


def save_shape(folder: Path, blocks: int) -> None:
    """Save a model of SmolLM2-135M's shape with so many blocks, its weights random."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=blocks,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)


def make_run(path: str, arguments: argparse.Namespace) -> PlannedRun:
    """Return a run of one step, of one micro-batch."""
    rows = max(1, arguments.tokens // arguments.length)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, 49000, (rows, arguments.length), generator=generator).tolist()
    examples = tuple(Example(str(row), tuple(ids), (True,) * arguments.length) for row, ids in enumerate(tokens))
    training = Training(1e-5, rows, arguments.tokens, 0.1, "cosine", 0.0, 1.0, arguments.precision)
    if arguments.checkpointing:
        training = Training(1e-5, rows, arguments.tokens, 0.1, "cosine", 0.0, 1.0, arguments.precision, checkpointing=True)
    base = BaseModel(path, None, "", 0, arguments.length)
    methods = parse_recipe(arguments.recipe).methods
    return PlannedRun(base, TrainingData(examples, ()), methods, training, Ledger("steps", 1.0), 0)


def measure(path: str, arguments: argparse.Namespace, logits_at_once: int | None) -> tuple[int, int, float]:
    """Return bytes held before, bytes at the peak, and CPU-seconds of one optimizer step in this process."""
    torch.set_num_threads(1)
    run = make_run(path, arguments)
    run.logits_at_once = logits_at_once or run.logits_at_once
    before = held_memory(CPU)
    reset_peak_memory(CPU)
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        train(run, Path(folder), lambda *_: None, lambda _: None)
    return before, peak_memory(CPU), time.process_time() - begin


def predicted(path: str, arguments: argparse.Namespace) -> float:
    """Return the bytes that are predicted for the step, the base's fp32 weights included."""
    run = make_run(path, arguments)
    length = arguments.length
    sizer = Sizer(path, parse_recipe(arguments.recipe), arguments.precision, length, "cpu")
    rows = len(run.data.domain)
    shape = Shape(rows, length, rows * (length - 1))
    size = sizer.size(Way(arguments.tokens, arguments.checkpointing), [shape], squares=length <= SHORT)
    return size.bytes + 4.0 * sizer.parameters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a folder with a model; random weights if none is given")
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=8192, help="supervised tokens of the micro-batch")
    parser.add_argument("--length", type=int, default=1024, help="tokens of each sequence")
    parser.add_argument("--recipe", default="")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--pieces-only", action="store_true", help="do not measure the head as a whole")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.model or folder
        if not arguments.model:
            save_shape(Path(folder), arguments.blocks)
        ways = {"in pieces": None} if arguments.pieces_only else {"whole": WHOLE, "in pieces": None}
        for name, logits_at_once in ways.items():
            before, peak, seconds = fresh(measure, path, arguments, logits_at_once)
            own = (peak - before) / 1e9
            text = f"head {name:10s} peak {peak / 1e9:6.2f} GB, {own:6.2f} of them the step's"
            print(f"{text}   {seconds:7.1f} CPU-seconds", flush=True)
        print(f"predicted for the step, in pieces: {predicted(path, arguments) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
