"""How DeepSpeed shards a run, read and checked before anything is loaded. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.errors import PlanError, raise_faults
from harness.plan.settings import Settings
from harness.store.opening import read_given_json, shortened

DeepSpeedConfig = dict[str, Any]
"""A DeepSpeed configuration, or a part of one, as its JSON file has it."""

NAMED: dict[str, DeepSpeedConfig] = {
    "zero2": {"stage": 2},
    "zero3": {"stage": 3},
    "zero2-offload": {"stage": 2, "offload_optimizer": {"device": "cpu", "pin_memory": True}},
    "zero3-offload": {
        "stage": 3,
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
        "offload_param": {"device": "cpu", "pin_memory": True},
    },
}
"""What the words mean: 2 shards gradients, masters and moments; 3 the model too; offload keeps them in the CPU's memory."""
THEIRS = ("zero_optimization", "communication_data_type", "comms_logger", "wall_clock_breakdown", "aio")
"""What a user's own configuration may say; the rest is the protocol's, the same for every recipe."""

PARTS = ("offload_optimizer", "offload_param")
"""Of `zero_optimization`, what may be kept elsewhere than on the GPU."""


def zero_of(text: str) -> DeepSpeedConfig:
    """Return the user's part of a DeepSpeed configuration: one of `NAMED`, or a JSON file. "auto" leaves a value to us.

    Raises PlanError with all faults.
    """
    if text in NAMED:
        return {"zero_optimization": NAMED[text]}
    path = Path(text)
    if path.suffix != ".json":
        raise PlanError(f"deepspeed is {', '.join(NAMED)} or a DeepSpeed .json file, not '{shortened(text)}'")
    given = read_given_json(path, f"deepspeed file '{text}'")
    if fault := _misformed(given):
        raise PlanError(f"deepspeed file '{text}' {fault}")
    config = _without_auto(given)

    # All recipes share the rest: a user who sets the optimizer there would compare something else.
    zero = config.get("zero_optimization", {})
    faults = [
        f"deepspeed file '{text}' sets {key}, which the plan decides for all recipes alike; remove it, or write \"auto\""
        for key in config
        if key not in THEIRS
    ]
    if zero.get("stage") not in (2, 3):
        faults.append(f"deepspeed file '{text}': zero_optimization.stage is 2 or 3, not {zero.get('stage')}")

    # Offloading to disk is not tried here.
    for part in PARTS:
        if zero.get(part, {}).get("device", "none") not in ("cpu", "none"):
            faults.append(f"deepspeed file '{text}': {part}.device is cpu or none, not {zero[part]['device']}")
    raise_faults(faults)
    return config


def _misformed(given: Any) -> str:
    """Return which part of a configuration is no object where one is wanted; "" where all are."""
    if not isinstance(given, dict):
        return "is no JSON object; write one with zero_optimization"
    zero = given.get("zero_optimization", {})
    if not isinstance(zero, dict):
        return 'has a zero_optimization that is no object; write {"stage": 2} or {"stage": 3} there'
    for part in PARTS:
        if not isinstance(zero.get(part, {}), dict):
            return f'has an {part} that is no object; write {{"device": "cpu"}} there, or leave it out'
    return ""


def deepspeed_config(text: str, precision: str) -> DeepSpeedConfig:
    """Return the whole configuration: the user's part, and what the one training loop needs of DeepSpeed."""
    ours = {
        "train_micro_batch_size_per_gpu": 1,  # never asked: the loop makes the batches, and says which is a step's last
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0,  # the loop clips, after pulls
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # torch's own optimizers, wherever their moments are
        "steps_per_print": 10**9,
    }

    # Gradients are summed in fp32, as the other engines sum them.
    if precision == "bfloat16":
        ours |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}, "communication_data_type": "fp32"}
    return ours | zero_of(text)


def _without_auto(value: DeepSpeedConfig) -> DeepSpeedConfig:
    kept = {key: _without_auto(part) if isinstance(part, dict) else part for key, part in value.items()}
    return {key: part for key, part in kept.items() if part not in ("auto", {})}


def sharding_of(plan: Settings) -> DeepSpeedConfig | None:
    """Return DeepSpeed's configuration for a run; None if every process holds the whole model."""
    return deepspeed_config(plan.deepspeed, plan.precision) if plan.deepspeed else None


def ranks_of(plan: Settings) -> dict[str, Any]:
    """Return a question's entries on a run's processes; none for one process.

    They say how many processes there are, and how DeepSpeed shards the run.
    """
    if not plan.has_ranks:
        return {}
    return {"ranks": plan.ranks, "deepspeed": sharding_of(plan)}
