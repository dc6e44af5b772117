"""Trackers: what is shown arrives where it should, a resumed run goes on, and none of them can stop a run."""

from __future__ import annotations

import sys
import types

import pytest

from harness.errors import PlanError
from harness.plan.early import early_faults
from harness.plan.plan import Plan
from harness.plan.values import TRACKERS, parse_trackers
from harness.runs.trackers import TRACKER_CLASSES, Label, Trackers

LABEL = Label("finance", "sft-0", "k1", {"recipe": "sft", "seed": 0})


def test_every_tracker_that_can_be_named_exists():
    assert TRACKERS.keys() == TRACKER_CLASSES.keys()


def test_names_are_joined_by_plus_and_a_wrong_one_is_refused_with_the_nearest():
    assert parse_trackers("tensorboard+mlflow") == ["tensorboard", "mlflow"]
    assert parse_trackers("none") == []
    with pytest.raises(PlanError, match="did you mean 'mlflow'"):
        parse_trackers("mlfow")


def test_a_client_that_is_not_installed_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr("harness.plan.early.find_spec", lambda name: None if name == "wandb" else object())
    faults = early_faults(Plan(report_to="wandb+tensorboard"))
    assert faults == ["report_to=wandb needs a package that is not installed: pip install 'lethe[wandb]'"]


def test_tensorboard_shows_a_run_and_a_new_start_leaves_no_old_curve(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for value in (1.0, 2.0):
        trackers = Trackers(["tensorboard"], LABEL, tmp_path, resumed=False)
        trackers.log({"train/loss": value}, 1)
        trackers.close()
    events = EventAccumulator(str(tmp_path / "sft-0"))
    events.Reload()
    assert [event.value for event in events.Scalars("train/loss")] == [2.0]


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_mlflow_has_parameters_metrics_and_one_run_after_a_resume(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for step, resumed in ((1, False), (2, True)):
        trackers = Trackers(["mlflow"], LABEL, tmp_path, resumed)
        trackers.log({"train/loss": 3.0 - step, "zones/tokens 0-1.45 nats": 5}, step)
        assert list(trackers.open) == ["mlflow"]
        trackers.close()
    client = MlflowClient()
    experiment = client.get_experiment_by_name("finance")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1 and runs[0].data.params["recipe"] == "sft" and runs[0].info.status == "FINISHED"
    history = client.get_metric_history(runs[0].info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.0)]


def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    calls = []

    class Run:
        def log(self, metrics, step):
            calls.append(step)
            raise ConnectionError("no network")

        def finish(self):
            raise AssertionError("it was left out")

    client = types.ModuleType("wandb")
    client.init = lambda **settings: Run()
    monkeypatch.setitem(sys.modules, "wandb", client)
    trackers = Trackers(["wandb", "tensorboard"], LABEL, tmp_path, resumed=False)
    for step in (1, 2):
        trackers.log({"train/loss": 1.0}, step)
    trackers.close()
    assert calls == [1]
    assert "wandb shows nothing more of this run: ConnectionError: no network" in capsys.readouterr().err
    assert list((tmp_path / "sft-0").glob("events.out.tfevents.*"))
