"""The evaluations of one run while it trains and after."""

from __future__ import annotations

import time
from functools import cached_property

import pandas as pd

from harness.contract import Weights
from harness.models.adapters import Wrapped, unfolded, wrap
from harness.models.base_model import read_weights, weights_hash
from harness.models.placement import has_room, placed
from harness.runs.events import Evaluating, Events
from harness.runs.probe import probe
from harness.setup.evaluations import Evaluation
from harness.setup.material import Material
from harness.setup.specs import RunSpec, planned_run
from harness.store.journal import Journal
from harness.store.runs import RunFolder
from harness.store.schema import ITEM_COLUMNS
from harness.training.step import Diverged
from harness.vocabulary import EvalKind, Role

ALPHAS = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Where the line from the base (0) to the tuned model (1) is scored on dev items."""


class Scoring:
    """The evaluations of one run: final on everything, curve on a fixed sub-sample, path on dev items; or dev items only."""

    def __init__(self, spec: RunSpec, material: Material, folder: RunFolder, evaluation: Evaluation):
        self.spec, self.folder, self.evaluation, self.material = spec, folder, evaluation, material
        # Seconds of evaluation are recorded, not charged.
        self.seconds = 0.0
        self.run = planned_run(material, spec)
        self.stay = unfolded(self.run.filled("trainable"))

    @cached_property
    def wrapped(self) -> Wrapped:
        """A model to put the weights being scored in, in the host's memory."""
        wrapped = wrap(self.evaluation.load(), self.stay, self.run, self.evaluation.base_weights)
        wrapped.model.eval()
        return wrapped

    @cached_property
    def start(self) -> Weights:
        """The start of the line to the trained weights: the base, and initial added weights in the computing precision."""
        return self.run.wrap(self.run.load()).start if self.stay else self.evaluation.base_weights

    @property
    def complete(self) -> bool:
        """Whether the store holds all scores this run must have."""
        keys = self.evaluation.keys
        return all(self.folder.has_scores(kind, keys[kind]) for kind in self.spec.kinds)

    def forget(self) -> None:
        """Drop what an earlier training left: another one may end elsewhere (on a GPU).

        A training that goes on from its checkpoint keeps its scores on the way.
        """
        for kind in self.spec.kinds:
            self.folder.drop_scores(kind, self.evaluation.keys[kind])
        if not self.folder.checkpoint.exists():
            self.folder.forget_way(self.evaluation.keys[EvalKind.CURVE])

    @property
    def has_room(self) -> bool:
        """Whether the model being scored can stand on the device beside what is there."""
        return has_room(self.wrapped.model, self.evaluation.device)

    def look(self, fraction: float, weights: Weights) -> pd.DataFrame:
        """Score the curve's sub-sample; rows of a fraction that is scored again (after a resume) are replaced."""
        scores = self._score(EvalKind.CURVE, weights, fraction=fraction)

        # The base is asked for rarely while a run trains, and holds memory that training wants.
        self._append(EvalKind.CURVE, scores, fraction)
        self.evaluation.release_base()
        return scores

    def _append(self, kind: EvalKind, scores: pd.DataFrame, fraction: float) -> None:
        # A resumed run looks again at fractions it had passed: the later look counts.
        earlier = self.folder.scores(kind, self.evaluation.keys[kind])
        if earlier is not None:
            scores = pd.concat([earlier[earlier["fraction"] < fraction - 1e-9], scores], ignore_index=True)
        self.folder.write_scores(kind, self.evaluation.keys[kind], scores)

    def score(self, weights: Weights, events: Events) -> None:
        """Score every evaluation of the finished run that the store lacks.

        The curve's last point is part of the final scores.
        """
        for kind in self.spec.kinds:
            if self.folder.has_scores(kind, self.evaluation.keys[kind]):
                continue

            # The last point of the curve is part of the final scores: it need not be asked twice.
            if kind == EvalKind.PATH:
                final = self.folder.scores(EvalKind.FINAL, self.evaluation.keys[EvalKind.FINAL])
                self._append(EvalKind.CURVE, self.evaluation.evaluator(EvalKind.CURVE).part_of(final), 1.0)
            events(Evaluating(kind=kind))
            self.folder.write_scores(kind, self.evaluation.keys[kind], self._scores_of(kind, weights))

    def _scores_of(self, kind: EvalKind, weights: Weights) -> pd.DataFrame:
        """Return the scores of one kind; those that ask more than one model have a function of their own."""
        match kind:
            case EvalKind.PATH:
                return self._path(weights)
            case EvalKind.STAGES:
                return self._stages()
            case EvalKind.PROBE:
                return self._probe(weights)
            case _:
                return self._score(kind, weights)

    def _path(self, weights: Weights) -> pd.DataFrame:
        """Return dev scores along the line from the base; of the base itself at alpha 0 only, of controls at 1 only.

        None at all where no line leads to the base.
        """
        # Where the model does not begin as the base, no line leads there.
        if any(method.unlike_base for method in self.run.methods):
            return pd.DataFrame(columns=list(ITEM_COLUMNS))
        # The base and the controls are ends of the line: one point each.
        if self.spec.role != Role.RECIPE:
            alpha = 0.0 if self.spec.role == Role.BASE else 1.0
            return self._score(EvalKind.PATH, weights, alpha=alpha)
        points = []
        for alpha in ALPHAS:
            # Linear in every weight, added ones included.
            between = {name: self.start[name].lerp(tensor, alpha) for name, tensor in weights.items()}
            points.append(self._score(EvalKind.PATH, between, alpha=alpha))
        return pd.concat(points, ignore_index=True)

    def _probe(self, weights: Weights) -> pd.DataFrame:
        """Return the general scores after the recovery probe; none where it diverges."""
        try:
            recovered, cost = probe(self.material, weights)
        # A probe that diverges says that little can be recovered; it must not end the run.
        except Diverged as error:
            self.folder.write("probe", {"diverged": str(error)})
            return pd.DataFrame(columns=list(ITEM_COLUMNS))
        self.folder.write("probe", cost)
        return self._score(EvalKind.PROBE, recovered)

    def _stages(self) -> pd.DataFrame:
        """Return scores after each stage but the last (`final` has those), of the weights as trained: FINISH acts
        once, at the end.
        """
        scores = []
        for stage in range(1, len(self.material.stages)):
            path = self.folder.stage_weights(stage)
            if path.exists():  # a run that a method ended early has fewer
                scores.append(self._score(EvalKind.STAGES, read_weights(path)).assign(stage=stage))
        return pd.concat(scores, ignore_index=True) if scores else pd.DataFrame(columns=[*ITEM_COLUMNS, "stage"])

    def _score(self, kind: EvalKind, weights: Weights, **where_: float) -> pd.DataFrame:
        begin = time.monotonic()
        self.wrapped.set(weights)
        # Named by the weights: what an earlier try scored of these weights is not scored again.
        journal = Journal(self.folder.journal_path(kind, self.evaluation.keys[kind]), weights_hash(weights))
        model = placed(self.wrapped.model, self.evaluation.device)
        scores = self.evaluation.score(kind, model, journal=journal, **where_)
        self.seconds += time.monotonic() - begin
        return scores
