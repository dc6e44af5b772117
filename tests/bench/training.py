"""`make bench`: supervised tokens a CPU-second of our loop beside TRL's SFTTrainer, and of NLIRG beside plain fine-tuning.

Same model, same records, same batch of 32 examples, alternating in one run; CPU-seconds of one thread, because machines are
shared and noisy. TRL runs at its documented settings for this case: completion-only loss, lengths grouped, fused AdamW, bf16
autocast over fp32 weights (the numerics nearest to ours: bf16 compute, fp32 masters).
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
from harness.setup.material import Material, gather
from harness.setup.specs import RunSpec, run_specs, training_run
from harness.training.loop import train


def ours(material: Material, spec: RunSpec, steps: int) -> float:
    """Supervised tokens a CPU-second of our loop, over all steps but the first."""
    run = training_run(material, dataclasses.replace(spec, meter="steps", allowed=float(steps)))
    times: list[float] = []
    supervised: list[int] = []

    def report(entry: dict[str, Any]) -> None:
        times.append(time.process_time())
        supervised.append(entry["supervised"])

    with tempfile.TemporaryDirectory() as folder:
        train(run, Path(folder), lambda *_: None, report)
    return sum(supervised[1:]) / (times[-1] - times[0])


def documented(material: Material, folder: str, steps: int) -> Any:
    """TRL's settings."""
    from trl import SFTConfig

    return SFTConfig(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=32,
        train_sampling_strategy="group_by_length",
        learning_rate=material.training.learning_rate,
        lr_scheduler_type="cosine",
        optim="adamw_torch_fused",
        bf16=True,
        gradient_checkpointing=False,
        completion_only_loss=True,
        max_length=material.plan.max_length,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )


def trl(material: Material, steps: int) -> float:
    """The same of TRL's SFTTrainer."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTTrainer

    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            times.append(time.process_time())

        def on_train_end(self, *_, **__):
            times.append(time.process_time())

    examples = material.training_data.domain[: 32 * steps]
    rows = [{"input_ids": list(e.tokens), "completion_mask": [int(s) for s in e.supervised]} for e in examples]
    with tempfile.TemporaryDirectory() as folder:
        config = documented(material, folder, steps)
        model = material.base.load(torch.float32)
        trainer = SFTTrainer(
            model=model,
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=material.base.tokenizer,
            callbacks=[Clock()],
        )
        trainer.train()
    supervised = sum(sum(e.supervised[1:]) for e in examples) * (steps - 1) / steps
    return supervised / (times[-1] - times[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="plain fine-tuning with compiled blocks too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    material = gather(make_plan({"recipes": "sft nlirg", "precision": "bfloat16"}))
    specs = {spec.row: spec for spec in run_specs(material, 1.0)}
    if arguments.compile:
        compiled = dataclasses.replace(specs["sft"].training, compile=True)
        specs["compiled"] = dataclasses.replace(specs["sft"], training=compiled)
    rows = [row for row in ("sft", "nlirg", "compiled") if row in specs]
    figures: dict[str, list[float]] = {row: [] for row in ("trl", *rows)}
    for _ in range(arguments.rounds):
        figures["trl"].append(trl(material, arguments.steps))
        for row in rows:
            figures[row].append(ours(material, specs[row], arguments.steps))
    print(f"{material.base.parameters:,} parameters, {arguments.steps} steps a round")
    for name, values in figures.items():
        each = ", ".join(f"{value:,.0f}" for value in values)
        print(f"{name:8s} {median(values):9,.0f} supervised tokens a CPU-second   ({each})")
    ratios = [mine / theirs for mine, theirs in zip(figures["sft"], figures["trl"], strict=True)]
    print(f"ours over TRL: {median(ratios):.2f}   ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")
    slower = max(figures["sft"]) / max(figures["nlirg"])
    print(f"NLIRG's time over SFT's, best round each (the least disturbed): {slower:.3f}")


if __name__ == "__main__":
    main()
