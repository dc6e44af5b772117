"""TensorBoard: what a run shows while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from harness.plan.settings import Settings
from harness.setup.specs import RunSpec
from harness.store.files import is_local, place


class Monitor:
    """Writes loss, learning rate, penalty, gradient norm, zones and scores of one run under `<folder>/<row>-<seed>`.

    The folder is the comparison's; where that is no local one, the run's own, and goes to the store with it.
    """

    def __init__(self, spec: RunSpec, plan: Settings, own: Path, resumed: bool):
        from torch.utils.tensorboard import SummaryWriter

        if plan.tensorboard:
            folder = Path(plan.tensorboard)
        elif is_local(place(plan.out)):
            folder = place(plan.out) / plan.name / "tensorboard"
        else:
            folder = own / "tensorboard"
        self.path = folder / f"{spec.row}-{spec.seed}".replace(" ", "-").replace("/", "-")
        if not resumed:
            for old in self.path.glob("events.out.tfevents.*"):
                old.unlink()
        self.writer = SummaryWriter(str(self.path))
        self.last = 0

    def step(self, entry: dict[str, Any]) -> None:
        """One optimizer step, as logged."""
        self.last = entry["step"]
        for name in ("loss", "task_loss", "penalty", "rate", "gradient_norm", "spent"):
            self.writer.add_scalar(f"train/{name}", entry[name], self.last)
        for zone in entry["zones"]:
            label = f"{zone['low']:g}-{zone['high']:g}" if zone["high"] is not None else f"{zone['low']:g}+"
            self.writer.add_scalar(f"zones/tokens {label} nats", zone["tokens"], self.last)
            self.writer.add_scalar(f"zones/gradient {label} nats", zone["gradient"], self.last)

    def scores(self, fraction: float, scores: pd.DataFrame) -> None:
        """Scores of the curve's sub-sample: validation loss, and the mean of each family."""
        for (group, metric), rows in scores[~scores["primary"]].groupby(["group", "metric"]):
            self.writer.add_scalar(f"validation/{group} {metric}", float(rows["score"].mean()), self.last)
        for (group, family), rows in scores[scores["primary"]].groupby(["group", "family"]):
            self.writer.add_scalar(f"{group}/{family}", float(rows["score"].mean()), self.last)

    def close(self) -> None:
        self.writer.close()
