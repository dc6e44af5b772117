"""`make bench`: supervised tokens a second of our loop beside TRL's SFTTrainer, and of NLIRG beside plain fine-tuning.

Same model, same records, same batch of 32 examples, one thread, alternating in one run because machines are noisy. TRL runs at
its documented settings for this case: completion-only loss, lengths grouped, fused AdamW, bf16 autocast over fp32 weights (the
numerics nearest to ours: bf16 compute, fp32 masters).
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

from harness.material import Material, RunSpec, gather, run_specs, training_run
from harness.plan import make_plan
from harness.store import RunFolder
from harness.train import train


def ours(material: Material, spec: RunSpec, steps: int) -> float:
    """Supervised tokens a second of our loop, over all steps but the first."""
    run = training_run(material, dataclasses.replace(spec, meter="steps", allowed=float(steps)))
    with tempfile.TemporaryDirectory() as folder:
        train(run, Path(folder), lambda *_: None, lambda _: None)
        log = RunFolder(Path(folder)).log()[1:]
    return sum(entry["supervised"] for entry in log) / sum(entry["seconds"] for entry in log)


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
            times.append(time.perf_counter())

        def on_train_end(self, *_, **__):
            times.append(time.perf_counter())

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
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    material = gather(make_plan({"recipes": "sft nlirg", "precision": "bfloat16"}))
    specs = {spec.row: spec for spec in run_specs(material, 1.0)}
    figures: dict[str, list[float]] = {"trl": [], "sft": [], "nlirg": []}
    for _ in range(arguments.rounds):
        figures["trl"].append(trl(material, arguments.steps))
        for row in ("sft", "nlirg"):
            figures[row].append(ours(material, specs[row], arguments.steps))
    print(f"{material.base.parameters:,} parameters, {arguments.threads} thread(s), {arguments.steps} steps a round")
    for name, values in figures.items():
        print(f"{name:6s} {median(values):9,.0f} supervised tokens/s   ({', '.join(f'{value:,.0f}' for value in values)})")
    ratios = [mine / theirs for mine, theirs in zip(figures["sft"], figures["trl"], strict=True)]
    print(f"ours over TRL: {median(ratios):.2f}   ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")
    slower = [plain / weighted for plain, weighted in zip(figures["sft"], figures["nlirg"], strict=True)]
    print(f"NLIRG's time over SFT's: {median(slower):.3f}   ({', '.join(f'{ratio:.3f}' for ratio in slower)})")


if __name__ == "__main__":
    main()
