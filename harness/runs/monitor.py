"""Live metrics of a run in the trackers of the plan, and figures from its log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median, pvariance

import pandas as pd

from harness.plan.settings import Settings
from harness.plan.values import parse_trackers
from harness.runs.trackers import Label, Trackers
from harness.setup.specs import RunSpec
from harness.store.files import is_local, place
from harness.store.schema import LogLine


class Monitor:
    """Shows loss, learning rate, penalty, gradient norm, zones and scores of one run, as `<row>-<seed>`."""

    def __init__(self, spec: RunSpec, plan: Settings, run_folder: Path, resumed: bool):
        # Trackers take names without blanks and slashes.
        name = f"{spec.row}-{spec.seed}".replace(" ", "-").replace("/", "-")
        settings = {"recipe": spec.row, "seed": spec.seed, "data": plan.data, "model": str(plan.model), "budget": plan.budget}
        label = Label(plan.name, name, spec.key, settings)
        self.trackers = Trackers(parse_trackers(plan.report_to), label, _folder(plan, run_folder), resumed)
        self.last = 0

    def step(self, entry: LogLine) -> None:
        """Show one optimizer step, as logged."""
        self.last = entry["step"]
        metrics = {}
        for name in ("loss", "task_loss", "penalty", "rate", "gradient_norm", "spent"):
            metrics[f"train/{name}"] = entry[name]
        for zone in entry["zones"]:
            label = f"{zone['low']:g}-{zone['high']:g}" if zone["high"] is not None else f"{zone['low']:g}+"
            metrics[f"zones/tokens {label} nats"] = zone["tokens"]
            metrics[f"zones/gradient {label} nats"] = zone["gradient"]
        self.trackers.log(metrics, self.last)

    def scores(self, fraction: float, scores: pd.DataFrame) -> None:
        """Show scores of the curve's sub-sample: validation loss, and the mean of each family."""
        metrics = {}
        # What is not primary is how the text was predicted: the validation loss.
        for (group, metric), rows in scores[~scores["primary"]].groupby(["group", "metric"]):
            metrics[f"validation/{group} {metric}"] = float(rows["score"].mean())
        for (group, family), rows in scores[scores["primary"]].groupby(["group", "family"]):
            metrics[f"{group}/{family}"] = float(rows["score"].mean())
        self.trackers.log(metrics, self.last)

    def close(self) -> None:
        """Say that the run has ended."""
        self.trackers.close()


def _folder(plan: Settings, run_folder: Path) -> Path:
    """Return where trackers keep files: the comparison's folder; the run's, which goes to the store, if that is not local."""
    if plan.tensorboard:
        return Path(plan.tensorboard)
    # All runs of a comparison side by side, so that one command shows them.
    if is_local(place(plan.out)):
        return place(plan.out) / plan.name / "tensorboard"
    return run_folder / "tensorboard"


def stability(log: Sequence[LogLine], warmup: float) -> dict[str, float | int | None]:
    """Return how steadily a run trained, from its log.

    That is the variance of the loss after warm-up, and the number of gradient norms above ten
    medians.
    """
    losses = [entry["loss"] for entry in log if entry["spent"] > warmup]
    # A variance of one number says nothing.
    variance = pvariance(losses) if len(losses) > 1 else None
    norms = [entry["gradient_norm"] for entry in log]
    spikes = None
    if norms:
        limit = 10 * median(norms)
        spikes = sum(norm > limit for norm in norms)
    return {"loss_variance": variance, "gradient_spikes": spikes}
