"""Trackers: where a run's curves are shown while it trains. Each needs its own client, and none of them can stop a run."""

from __future__ import annotations

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Label:
    """What a tracker calls a run."""

    comparison: str
    """The tracker's project or experiment: the comparison's name."""
    run: str
    """Row and seed, as "lora+nlirg-0"."""
    key: str
    """The run's key in the store: a resumed run goes on under it."""
    settings: Mapping[str, str | int | float]
    """Recipe, seed, learning rate, model and data, for filters."""


class Tracker(ABC):
    """One place where curves are shown."""

    @abstractmethod
    def log(self, metrics: Metrics, step: int) -> None:
        """Show these numbers at an optimizer step."""

    @abstractmethod
    def close(self) -> None:
        """Say that the run has ended."""


class TensorBoard(Tracker):
    """Event files in a folder."""

    def __init__(self, label: Label, folder: Path, resumed: bool):
        from torch.utils.tensorboard import SummaryWriter

        path = folder / label.run
        # a run that begins anew would draw its curve twice
        if not resumed:
            for old in path.glob("events.out.tfevents.*"):
                old.unlink()
        self.writer = SummaryWriter(str(path))

    def log(self, metrics: Metrics, step: int) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class WandB(Tracker):
    """Weights & Biases: project = comparison. WANDB_MODE=offline writes to `folder` only."""

    def __init__(self, label: Label, folder: Path, resumed: bool):
        client = importlib.import_module("wandb")
        folder.mkdir(parents=True, exist_ok=True)
        self.run = client.init(
            project=label.comparison,
            name=label.run,
            id=label.key,
            config=dict(label.settings),
            dir=str(folder),
            resume="allow" if resumed else None,
            reinit="create_new",
        )

    def log(self, metrics: Metrics, step: int) -> None:
        self.run.log(dict(metrics), step=step)

    def close(self) -> None:
        self.run.finish()


class MLflow(Tracker):
    """MLflow: experiment = comparison; MLFLOW_TRACKING_URI says where, as for every client of MLflow's."""

    def __init__(self, label: Label, folder: Path, resumed: bool):
        tracking: Any = importlib.import_module("mlflow.tracking")
        self.client = tracking.MlflowClient()
        experiment = self.client.get_experiment_by_name(label.comparison)
        number = experiment.experiment_id if experiment else self.client.create_experiment(label.comparison)
        # A resumed run goes on under the same entry, found by the run's key.
        query = f"tags.lethe_key = '{label.key}'"
        earlier = self.client.search_runs([number], query, max_results=1) if resumed else []
        if earlier:
            self.run = earlier[0].info.run_id
            return
        tags = {"lethe_key": label.key, "mlflow.runName": label.run}
        self.run = self.client.create_run(number, tags=tags).info.run_id
        for name, value in label.settings.items():
            self.client.log_param(self.run, name, value)

    def log(self, metrics: Metrics, step: int) -> None:
        for name, value in metrics.items():
            self.client.log_metric(self.run, _plain(name), value, step=step)

    def close(self) -> None:
        self.client.set_terminated(self.run)


class Trackio(Tracker):
    """Trackio: project = comparison, a local dashboard (`trackio show`)."""

    def __init__(self, label: Label, folder: Path, resumed: bool):
        self.client: Any = importlib.import_module("trackio")
        self.client.init(
            project=label.comparison,
            name=label.run,
            config=dict(label.settings),
            resume="allow" if resumed else "never",
            embed=False,
        )

    def log(self, metrics: Metrics, step: int) -> None:
        self.client.log(dict(metrics), step=step)

    def close(self) -> None:
        self.client.finish()


TRACKER_CLASSES: dict[str, Callable[[Label, Path, bool], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
    "trackio": Trackio,
}
"""Name in `report_to` (harness/plan/values.py) -> tracker."""


def _plain(name: str) -> str:
    """Return a name of letters, digits and `_-. /` alone, which is what MLflow takes."""
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in name)


class Trackers:
    """All trackers of one run. One that fails is left out from then on, with one line: training goes on."""

    def __init__(self, names: list[str], label: Label, folder: Path, resumed: bool):
        self.open: dict[str, Tracker] = {}
        for name in names:

            def begin(name: str = name) -> None:
                self.open[name] = TRACKER_CLASSES[name](label, folder, resumed)

            self._guarded(name, begin)

    def log(self, metrics: Metrics, step: int) -> None:
        """Show these numbers everywhere."""
        # Over a copy: one that fails leaves the dictionary.
        for name, tracker in list(self.open.items()):

            def show(tracker: Tracker = tracker) -> None:
                tracker.log(metrics, step)

            self._guarded(name, show)

    def close(self) -> None:
        """Say everywhere that the run has ended."""
        for name, tracker in list(self.open.items()):
            self._guarded(name, tracker.close)

    def _guarded(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            # clients raise what they like (network, sign-in, versions): none of it may cost a trained model
            self.open.pop(name, None)
            print(f"{name} shows nothing more of this run: {type(error).__name__}: {error}", file=sys.stderr)
