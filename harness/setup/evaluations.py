"""What a comparison evaluates: everything at the end, a fixed sub-sample along the way, dev items on the way from the base."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import torch
from torch import nn

from harness.contract import Weights
from harness.data.held_out import held_out_texts
from harness.doing import counted, doing
from harness.errors import PlanError
from harness.evaluation.backends import check_backend
from harness.evaluation.drift import Base
from harness.evaluation.evaluator import Evaluator
from harness.evaluation.free_answers import Outputs, open_prompts
from harness.evaluation.item_rows import headline
from harness.measured.tuned import Tuned
from harness.models.base_model import copied, own_weights
from harness.models.placement import placed, release
from harness.setup.material import Material
from harness.setup.probe_examples import probe_key
from harness.setup.specs import RunSpec
from harness.setup.suite_tasks import dev_tasks, load_tasks
from harness.store.journal import Journal
from harness.store.schema import SuiteRecord
from harness.tasks.eval_task import EvalTask
from harness.tokens.chat_template import ChatTemplate
from harness.vocabulary import EvalKind

CURVE = {"domain": 100, "general": 200, "drift": 50}
"""Items scored at each fraction of the budget, and held-out records whose loss is measured (validation loss)."""
PATH = 80
"""Dev records of each group scored along the line from the base."""
DECIDED = 120
"""General dev records that a method may decide by."""
DRIFT = 300
"""Held-out records of each group whose loss and drift are measured."""


@dataclass(frozen=True)
class EvaluationPlan:
    """The evaluations of a comparison, as every process can rebuild them."""

    keys: dict[EvalKind, str]
    """Kind -> key of its question: `FINAL`, `QUALITY`, `CURVE`, `PATH`; `DEV` where recipes are tuned, `STAGES` where there
    are several, `PROBE` where it is asked for."""
    summary: list[SuiteRecord]
    """[{name, tasks, items}] a suite."""
    notes: tuple[str, ...]
    keep: bool
    """Whether full weights stay in the store."""
    apart: dict[str, dict[EvalKind, str]] = field(default_factory=dict)
    """Hash of a model tuned elsewhere -> the keys of its own evaluations, where it is asked otherwise than the base."""
    made: dict[EvalKind, Any] = field(default_factory=dict, compare=False, repr=False)
    """The evaluators themselves, where they are wanted in this process."""

    def keys_of(self, spec: RunSpec) -> dict[EvalKind, str]:
        """Return the keys of a run's evaluations."""
        return self.apart.get(spec.tuned.hash, self.keys) if spec.tuned else self.keys

    @classmethod
    def make(cls, material: Material, tasks: list[EvalTask], keep: bool = False) -> EvaluationPlan:
        """Build every evaluation now, so that what is missing or too long is said before anything trains.

        `keep`: they stay, with the base that they have loaded, for an evaluation that is opened in this process.
        """
        check_backend(material.plan.backend, [recipe.text for recipe in material.recipes if not recipe.folds])
        evaluators = _evaluators(material, tasks)
        final: Evaluator = evaluators[EvalKind.FINAL]

        # Base, control, and every seed and trial of each recipe keep their weights, where there is room.
        runs = 2 + len(material.recipes) * (material.plan.seeds + material.plan.tune)
        gigabytes = 4 * material.base.parameters * runs * len(material.stages) / 1e9
        doing("looking for prompts that are longer than the model's context")
        notes = list(final.notes)
        if material.plan.scoring != "float32":
            notes.append(f"models are scored in {material.plan.scoring}, which rounds more than float32 does (scoring=float32)")
        if gigabytes > material.plan.keep:
            need = f"{runs} runs would take {gigabytes:.0f} GB"
            notes.append(f"full weights are not kept: {need}, over keep={material.plan.keep:g}")

        # Keys are hashed once here; runs are looked up by them in the store.
        keys: dict[EvalKind, str] = {}
        for kind, evaluator in counted(evaluators.items(), "hashing what is asked"):
            keys[kind] = evaluator.key
        if material.plan.probe:
            keys[EvalKind.PROBE] = probe_key(material, final)
        apart = {model.tuned.hash: _keys_apart(material, model.tuned) for model in material.measured if model.tuned.own}
        made = evaluators if keep else {}
        return cls(keys, final.summary, tuple(notes), gigabytes <= material.plan.keep, apart, made)

    def open(self, material: Material) -> Evaluation:
        """Return, in a run's own process, the evaluators and a model to put weights in."""
        return Evaluation(self, material)


def _evaluators(material: Material, tasks: list[EvalTask]) -> dict[EvalKind, Any]:
    """Return every evaluator of a comparison, after the final one's losses were held against the model's own."""
    base = cache(lambda: material.base.load(torch.float32))
    evaluators: dict[EvalKind, Any] = {}
    for kind in _kinds_of(material):
        evaluators[kind] = _evaluator(kind, material, base, tasks)
    final: Evaluator = evaluators[EvalKind.FINAL]

    # A wrong shift of labels fails here, at the cost of one pass, and not in every number.
    doing("checking held-out losses against the model's own")
    final.check()
    evaluators[EvalKind.CURVE] = final.sample(**CURVE)
    evaluators[EvalKind.QUALITY] = _outputs(final, material, base)
    return evaluators


def _kinds_of(material: Material) -> list[EvalKind]:
    """Return the evaluations that have evaluators of their own."""
    # What a comparison does not ask is not built either: evaluators take memory and time.
    kinds = [EvalKind.FINAL]
    if material.recipes:
        kinds.append(EvalKind.PATH)
    if material.plan.tune:
        kinds.append(EvalKind.DEV)
    if len(material.stages) > 1:
        kinds.append(EvalKind.STAGES)
    return kinds


class Evaluation:
    """Evaluators over one loaded model; each is built when it is first asked for."""

    def __init__(self, plan: EvaluationPlan, material: Material, tuned: Tuned | None = None):
        """`tuned`: a model tuned elsewhere that is asked otherwise than the base."""
        self.plan = plan
        self.material = material
        self.tuned = tuned
        self.keys = plan.apart[tuned.hash] if tuned else plan.keys
        self.keep = plan.keep
        self._evaluators: dict[EvalKind, Any] = {} if tuned else dict(plan.made)

    def of(self, tuned: Tuned) -> Evaluation:
        """Return what asks a model tuned elsewhere: this, or evaluators of its own where its tokens or template differ."""
        return Evaluation(self.plan, self.material, tuned) if tuned.own else self

    def prepare(self) -> Evaluation:
        """Load the base and build every evaluator now, in the host's memory: for processes that inherit this one."""
        # What will be trained and scored is loaded before the fork, so that all runs share its pages.
        trained = {torch.float32, getattr(torch, self.material.plan.precision)} if self.material.recipes else set()
        self.material.base.hold(*trained, self.dtype)
        for kind in self.keys:
            self.evaluator(kind)
        if self.remembers_base:
            for kind in (EvalKind.FINAL, EvalKind.CURVE):
                self.evaluator(kind).remember_base()
        return self

    @property
    def remembers_base(self) -> bool:
        """Whether the base's part of the drift is computed once for all runs: only where it is exact."""
        # A run with more threads rounds differently.
        return self.device == "cpu" and self.material.plan.threads == 1

    @property
    def device(self) -> str:
        return self.material.plan.device

    @property
    def dtype(self) -> torch.dtype:
        """What models are scored in."""
        return getattr(torch, self.material.plan.scoring)

    @cached_property
    def original(self) -> Any:
        """The untouched base in fp32, in the host's memory; only read."""
        return self.material.base.original(torch.float32)

    @cached_property
    def base(self) -> Any:
        """The untouched base as models are scored, and where; only read."""
        return placed(self.material.base.original(self.dtype), self.device)

    def release_base(self) -> None:
        """Give a device that is not the host back; the base is copied there again when it is next asked for."""
        if self.device != "cpu":
            self.__dict__.pop("base", None)
            release()

    @cached_property
    def base_weights(self) -> Weights:
        return own_weights(self.original)

    def load(self) -> Any:
        """Return a fresh copy of the base in the host's memory, to hold the weights being scored."""
        return copied(self.material.base.original(self.dtype), "cpu")

    def evaluator(self, kind: EvalKind) -> Any:
        """Return what scores a model: an `Evaluator`, or for `QUALITY` the `Outputs`."""
        if kind not in self._evaluators:
            self._evaluators[kind] = self._made(kind)
        return self._evaluators[kind]

    def _made(self, kind: EvalKind) -> Any:
        """Return the evaluator of a kind, made anew; some are parts of the final one."""
        match kind:
            # Parts of the final evaluation share its prepared tasks.
            case EvalKind.CURVE:
                return self.evaluator(EvalKind.FINAL).sample(**CURVE)
            case EvalKind.PROBE:
                return self.evaluator(EvalKind.FINAL).general_only()
            case EvalKind.QUALITY:
                return _outputs(self.evaluator(EvalKind.FINAL), self._material, self._reference)
        tasks = load_tasks(self._material) if kind in (EvalKind.FINAL, EvalKind.STAGES) else []
        return _evaluator(kind, self._material, self._reference, tasks)

    @cached_property
    def _material(self) -> Material:
        """The material as the model reads it that is asked: the base's, or that of a model with tokens of its own."""
        return _read_by(self.tuned, self.material) if self.tuned else self.material

    @property
    def _reference(self) -> Base | None:
        """What gives the base; None where distances from it have no meaning."""
        return (lambda: self.base) if self.tuned is None or self.tuned.kinship.has_distance else None

    def open_dev(self) -> Callable[[nn.Module], float]:
        """Return what methods may decide by: a scorer of any model's retention on the general dev items, 0 to 1."""
        evaluator = self.evaluator(EvalKind.RETENTION)
        if not evaluator.tasks:
            raise PlanError("no general dev items are left to decide by; give a larger GENERAL file")

        def retention_of(model: nn.Module) -> float:
            retention = headline(evaluator.score(model, drift=False))["retention"]
            if math.isnan(retention):
                raise PlanError(
                    "the general dev items are plain texts, which have no score to keep; give a GENERAL file of questions"
                )
            return retention

        return retention_of

    def score(
        self, kind: EvalKind, model: Any, *, fraction: float = 1.0, alpha: float = 1.0, journal: Journal | None = None
    ) -> Any:
        """Return item scores of a model; what the journal knows is not computed again."""
        return self.evaluator(kind).score(model, fraction=fraction, alpha=alpha, journal=journal)


def _read_by(tuned: Tuned, material: Material) -> Material:
    """Return the same material as a model tuned elsewhere reads it: its tokens, its template, its context."""
    assert tuned.own is not None
    template = ChatTemplate(tuned.own.tokenizer, thinking=material.template.thinking)
    return replace(material, base=tuned.own, template=template)


def _keys_apart(material: Material, tuned: Tuned) -> dict[EvalKind, str]:
    """Return the keys of a model's own evaluations; what it cannot be asked is said now."""
    # An evaluation for this model alone: only its keys are wanted.
    plan = EvaluationPlan({}, [], (), False, {tuned.hash: {}})
    evaluation = Evaluation(plan, material, tuned)
    return {kind: evaluation.evaluator(kind).key for kind in (EvalKind.FINAL, EvalKind.QUALITY)}


def _evaluator(kind: EvalKind, material: Material, base: Base | None, tasks: list[EvalTask]) -> Evaluator:
    """Return a kind's evaluator. `final`: all tasks, and drift on held-out records; `stages`: the domain's tasks; `path`: some
    dev items; `retention`: the general ones; `dev`: all of them."""
    dataset = material.dataset
    plan = material.plan
    template = material.template
    options: dict[str, Any] = {"max_length": material.base.max_length, "cluster_of": dataset.cluster_of}
    options["backend"] = "hf" if kind == EvalKind.RETENTION else plan.backend  # what a method asks in training is charged
    options["scoring"] = plan.scoring
    # Only the domain is asked after each stage: what a later stage forgets of an earlier one.
    if kind == EvalKind.STAGES:
        domain = [task for task in tasks if task.group == "domain"]
        return Evaluator(domain, template, material.base.tokenizer, limit=plan.limit, **options)
    # Dev items only: nothing here may depend on a test item.
    if kind != EvalKind.FINAL:
        most = {EvalKind.DEV: None, EvalKind.RETENTION: DECIDED, EvalKind.PATH: PATH}
        dev = dev_tasks(material, most[kind])
        if kind == EvalKind.RETENTION:
            dev = [task for task in dev if task.group == "general"]
        return Evaluator(dev, template, material.base.tokenizer, **options)

    # Records without an answer have no loss to measure.
    answered = [record for record in dataset.test if record.text or record.answer >= 0]
    drift = {"domain": material.encode(answered[:DRIFT], "domain")} if answered else {}
    if material.general_dev:
        drift["general"] = material.encode(material.general_dev[:DRIFT], "general")
    drift["held_out"] = material.encode(held_out_texts(tasks), "general")
    options |= {"base": base, "drift_examples": drift, "limit": plan.limit}
    return Evaluator(tasks, template, material.base.tokenizer, **options)


def _outputs(final: Evaluator, material: Material, base: Base | None) -> Outputs:
    """Return what asks for free answers to some of the prompts that the final evaluation asks."""
    prompts = open_prompts(final.tasks, material.dataset.test, material.template)
    return Outputs(prompts, final, base, material.base.max_length)
