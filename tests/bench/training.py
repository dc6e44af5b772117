"""`make bench`: supervised tokens a CPU-second of our loop beside TRL's SFTTrainer, and of NLIRG beside plain fine-tuning.

Same model, same records, same number of examples a step, alternating in one run; CPU-seconds of one thread, because machines
are shared and noisy. TRL runs at its documented settings for this case: completion-only loss, fused AdamW, bf16 autocast over
fp32 weights (the numerics nearest to ours: bf16 compute, fp32 masters), once with lengths grouped and once packed; the faster
counts. `--plan examples/finance-smollm2/plan.toml` measures on a real model. Last, what our step reaches of the rate of its own
matrix products (tests/bench/products.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch

from harness.plan.load import make_plan
from harness.runs.timing import as_a_run
from harness.setup.material import Material, gather
from harness.setup.specs import RunSpec, planned_run, run_specs
from harness.training.loop import train
from tests.bench.products import share_of_products


def timed_steps(material: Material, spec: RunSpec, steps: int) -> tuple[int, float]:
    """Return the supervised tokens and the CPU-seconds of our loop, over all steps but the first."""
    run = planned_run(material, dataclasses.replace(spec, meter="steps", allowed=float(steps)))
    times: list[float] = []
    supervised: list[int] = []

    def report(entry: dict[str, Any]) -> None:
        times.append(time.process_time())
        supervised.append(entry["supervised"])

    # As a run's own process computes: it keeps freed memory, which TRL's steps after it then do too.
    with as_a_run(material.plan), tempfile.TemporaryDirectory() as folder:
        train(run, Path(folder), lambda *_: None, report)
    return sum(supervised[1:]), times[-1] - times[0]


def whole(material: Material, spec: RunSpec, steps: int = 5) -> float:
    """Return the CPU-seconds of all steps, the first taken to be as long as the others: warming up is not its work."""
    return timed_steps(material, spec, steps)[1] * steps / (steps - 1)


def ours(material: Material, spec: RunSpec, steps: int) -> float:
    """Return the supervised tokens a CPU-second of our loop."""
    supervised, seconds = timed_steps(material, spec, steps)
    return supervised / seconds


def documented(material: Material, folder: str, steps: int, packed: int) -> Any:
    """Return TRL's settings; `packed`: tokens of a packed row, one row a step, or 0 for padded rows of like length."""
    from trl import SFTConfig

    options: dict[str, Any] = {
        "per_device_train_batch_size": material.plan.batch_size,
        "train_sampling_strategy": "group_by_length",
        "max_length": material.plan.max_length,
    }
    if packed:
        options = {"per_device_train_batch_size": 1, "packing": True, "packing_strategy": "wrapped", "max_length": packed}
    return SFTConfig(
        output_dir=folder,
        max_steps=steps,
        learning_rate=material.training.learning_rate,
        lr_scheduler_type="cosine",
        optim="adamw_torch_fused",
        bf16=True,
        gradient_checkpointing=False,
        completion_only_loss=True,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        **options,
    )


def trl(material: Material, recipe: str, steps: int, packing: bool) -> float:
    """Return the supervised tokens a CPU-second of TRL's SFTTrainer, over all steps but the first."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTTrainer

    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            times.append(time.process_time())

        def on_train_end(self, *_, **__):
            times.append(time.process_time())

    batch = material.plan.batch_size
    examples = material.training_data.domain[: batch * steps]
    rows = [{"input_ids": list(e.tokens), "completion_mask": [int(s) for s in e.supervised]} for e in examples]
    length = sum(map(len, examples)) // steps if packing else 0
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=material.base.load(torch.float32),
            args=documented(material, folder, steps, length),
            train_dataset=Dataset.from_list(rows),
            processing_class=material.base.tokenizer,
            callbacks=[Clock()],
            peft_config=adapter(recipe),
        )
        trainer.train()
    done = len(times) - 2
    supervised = sum(sum(e.supervised[1:]) for e in examples) * done / steps
    return supervised / (times[-1] - times[1])


def adapter(recipe: str) -> Any:
    """Return peft's configuration of our LoRA's defaults; None for plain fine-tuning."""
    if recipe != "lora":
        return None
    from peft import LoraConfig

    return LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", help="a plan file for another model and other data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, help="records a step, instead of the plan's")
    parser.add_argument("--compile", action="store_true", help="plain fine-tuning with compiled blocks too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    options: dict[str, Any] = {"recipes": "sft lora nlirg", "precision": "bfloat16"}
    if arguments.batch_size:
        options["batch_size"] = arguments.batch_size
    material = gather(make_plan(options, arguments.plan))
    specs = {spec.row: spec for spec in run_specs(material, 1.0)}
    if arguments.compile:
        compiled = dataclasses.replace(specs["sft"].training, compile=True)
        specs["compiled"] = dataclasses.replace(specs["sft"], training=compiled)
    rows = [row for row in ("sft", "nlirg", "lora", "compiled") if row in specs]
    figures: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        for row in rows:
            figures.setdefault(row, []).append(ours(material, specs[row], arguments.steps))
            if row in ("sft", "lora"):
                for packing in (False, True):
                    name = f"trl {row}, {'packed' if packing else 'lengths grouped'}"
                    figures.setdefault(name, []).append(trl(material, row, arguments.steps, packing))
    print(f"{material.base.parameters:,} parameters, {arguments.steps} steps a round of {material.plan.batch_size} records")
    for name, values in figures.items():
        each = ", ".join(f"{value:,.1f}" for value in values)
        print(f"{name:26s} {median(values):9,.1f} supervised tokens a CPU-second   ({each})")
    for row in ("sft", "lora"):
        theirs = max((figures[name] for name in figures if name.startswith(f"trl {row},")), key=median)
        ratios = [mine / other for mine, other in zip(figures[row], theirs, strict=True)]
        print(f"{row}: ours over TRL: {median(ratios):.2f}   ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")
    slower = max(figures["sft"]) / max(figures["nlirg"])
    print(f"NLIRG's time over SFT's, best round each (the least disturbed): {slower:.3f}")
    for row in ("sft", "lora"):
        print(f"{row}: {share_of_products(lambda spec=specs[row]: whole(material, spec))}")


if __name__ == "__main__":
    main()
