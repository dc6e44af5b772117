"""Material: everything that a plan's runs share, loaded and checked once. All faults are reported together, before any run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.bundled import embedded
from harness.contract import Example
from harness.data.contamination import Found
from harness.data.held_out import Family
from harness.data.split import Dataset, joined, load_stages
from harness.decoding.open_model import open_base
from harness.doing import doing
from harness.errors import PlanError, raise_faults
from harness.files.records import Record, read_records
from harness.models.base_model import BaseModel, architecture_of
from harness.models.kernels import kernels_of
from harness.models.packed_attention import attention_span, check_packing, reads_rows_of
from harness.plan.check import device_faults
from harness.plan.load import resolve_places
from harness.plan.plan import Plan
from harness.plan.values import Budget, parse_budget
from harness.recipes.recipe import Recipe, parse_recipe, unsharded
from harness.setup.machine import meter_of, resolve_machine, resolve_workers, scoring_of
from harness.setup.recipe_trial import recipe_faults
from harness.text.thoughts import split_thoughts
from harness.tokens.chat_template import ChatTemplate
from harness.tokens.examples import check_known
from harness.tokens.plain_texts import encode_texts
from harness.training.protocol import Training, TrainingData

CURES = {
    "general_data": "needs general data; give GENERAL=file",
    "dev_scores": "decides on general dev items; give GENERAL=file with 10 records or more",
    "stages": "needs two stages; give DATA=first.json,second.json",
}
"""What a recipe may need of a plan, and how to have it."""

PACKED = 2048
"""Tokens of a packed row, where nothing else is asked for."""
SHARED = "runs share a GPU, so a run's seconds depend on what else is there"


@dataclass(frozen=True)
class Material:
    """Everything that the runs of a plan share."""

    plan: Plan
    """Every option resolved."""
    base: BaseModel
    template: ChatTemplate
    dataset: Dataset
    """All that is trained and tested on."""
    stages: tuple[Dataset, ...]
    """The data files in the order of training; one where the plan has one."""
    pool: tuple[Record, ...]
    """General records that methods may train on."""
    general_dev: tuple[Record, ...]
    """Retention items for dev decisions; never trained on, never tested on."""
    training_data: TrainingData
    recipes: tuple[Recipe, ...]
    budget: Budget
    notes: tuple[str, ...]
    contaminated: tuple[Found, ...] = ()
    """Suite items whose wording stands in what is trained on; what they exclude is not evaluated."""
    families: tuple[Family, ...] = ()
    """What the general families have in common with the general pool."""

    @property
    def training(self) -> Training:
        """The training protocol, with plain fine-tuning's learning rate."""
        plan = self.plan
        assert plan.precision is not None
        rate = plan.learning_rate or default_rate(self.base.parameters)
        names = ("batch_size", "micro_tokens", "warmup", "decay", "weight_decay", "clip", "precision", "pack_length")
        same = {name: getattr(plan, name) for name in names}
        fast = {"kernels": plan.kernels or "plain", "compile": plan.compile}
        return Training(rate, checkpointing=bool(plan.gradient_checkpointing), **same, **fast)

    def encode(self, records: Sequence[Record], source: str) -> list[Example]:
        """Return the training examples of these records."""
        return encode(self.plan, self.template, records, source)


def default_rate(parameters: int) -> float:
    """Return the peak rate of plain fine-tuning: 2e-5 at 1e9 parameters, falling with their square root, at most 1e-3.

    A guess anchored on common practice (1e-5 at 7-8 B, 2e-5 at 1 B); untuned, and every table says so.
    """
    return min(2e-5 * math.sqrt(1e9 / parameters), 1e-3)


def encode(plan: Plan, template: ChatTemplate, records: Sequence[Record], source: str) -> list[Example]:
    """Return the training examples of records.

    Conversations go through the chat template and are cut to `max_length`; plain texts are kept whole, in pieces of
    `pack_length`.
    """
    doing(f"tokenising {len(records):,} {source} records")
    assert plan.max_length is not None
    chats, texts = ([record for record in records if bool(record.text) is plain] for plain in (False, True))
    found = template.encode_all(chats, source, max_length=plan.max_length) if chats else []
    pieces = encode_texts(template.tokenizer, texts, source, plan.pack_length or plan.max_length) if texts else []
    check_known(template, pieces, source)
    return found + pieces


def gather(plan: Plan) -> Material:
    """Load and check everything. Raises one PlanError with all faults."""
    plan = resolve_machine(resolve_places(plan))
    faults: list[str] = []

    def attempt(action: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return action(*arguments, **options)
        except PlanError as error:
            faults.extend(error.faults)
            return None

    budget = attempt(parse_budget, plan.budget)
    recipes = [recipe for text in plan.recipe_texts if (recipe := attempt(parse_recipe, text))]
    doing(f"reading and hashing the model {plan.model}")
    base = attempt(open_base, plan.model)
    text = plan.mode == "cpt"
    doing(f"reading {plan.data}, and looking for records that are alike")
    stages = attempt(load_stages, plan.sources, plan.tests, accept="text" if text else "chat")
    unread: list[str] = []
    general = attempt(read_records, plan.general, "both" if text else "chat", unread) if plan.general else []
    if budget and plan.gpus_per_run < 1 and meter_of(plan, budget) == "seconds":
        cure = "bind another meter, as --meter flops, or give a run a whole GPU"
        faults.append(f"with gpus_per_run {plan.gpus_per_run:g}, {SHARED}; {cure}")
    kernels = attempt(kernels_of, plan.kernels, plan.device, architecture_of(base.path)) if base else None
    if plan.deepspeed:
        faults += [fault for recipe in recipes if (fault := unsharded(recipe, len(plan.sources) > 1))]
    raise_faults(faults or recipe_faults(base, recipes))
    plan = dataclasses.replace(sized(_resolve_lengths(plan, budget, base), recipes), kernels=kernels)
    raise_faults(device_faults(plan))  # of what the GPU's size chose
    plan = _packed_where_exact(plan, base)
    pool, general_dev = _split_general(plan, general)
    dataset = joined(stages)
    template = ChatTemplate(base.tokenizer, thinking=_thinks(dataset.train))
    domain = [
        dataclasses.replace(example, stage=number) if number > 1 else example
        for number, stage in enumerate(stages, 1)
        for example in encode(plan, template, stage.train, "domain")
    ]
    pool_examples = encode(plan, template, pool, "general")
    data = TrainingData(tuple(domain), tuple(pool_examples))
    has = {"general_data": bool(pool_examples), "dev_scores": bool(general_dev), "stages": len(stages) > 1}
    chosen, left_out = _usable(recipes, has, text)
    notes = [
        *base.notes,
        *dataset.notes,
        *unread,
        *template.notes,
        *left_out,
        *_not_the_base(chosen),
        *_not_saved(plan, chosen),
    ]
    if plan.gpus_per_run < 1:
        notes.append(f"With {plan.gpus_per_run:g} of a GPU a run, {SHARED}: device-seconds are not to be compared.")
    return Material(
        plan, base, template, dataset, tuple(stages), tuple(pool), tuple(general_dev), data, chosen, budget, tuple(notes)
    )


def _thinks(records: Sequence[Record]) -> bool:
    """Return whether answers are to begin with thoughts: at least a tenth of the trained ones do. Fewer are left out."""
    answers = [turn.content for record in records for turn in record.messages if turn.role == "assistant"]
    return 10 * sum(split_thoughts(answer)[0] is not None for answer in answers) >= max(1, len(answers))


def _resolve_lengths(plan: Plan, budget: Budget, base: BaseModel) -> Plan:
    """Resolve the meter, tokens per example and packed row of plain texts, the scoring precision, and runs at once."""
    packed = min(plan.pack_length or PACKED, base.max_length) if plan.mode == "cpt" else plan.pack_length
    lengths = {"max_length": min(base.max_length, plan.max_length or 2048), "pack_length": packed}
    plan = resolve_workers(plan, base.parameters)
    return dataclasses.replace(plan, meter=meter_of(plan, budget), scoring=scoring_of(plan, base.parameters), **lengths)


def _packed_where_exact(plan: Plan, base: BaseModel) -> Plan:
    """Return the plan with the length of packed rows, after a trial of the model that packs.

    Conversations are packed by default on a CPU, where FLOPs are charged, padding included; on a GPU seconds are. A model that
    shows packed texts to each other, or attends over less than the longest example, is packed only if the plan asks for it.
    Raises PlanError if it does.
    """
    assert plan.max_length is not None
    asked = plan.pack_length is not None
    if plan.pack_length == 0 or (not asked and (plan.device != "cpu" or plan.gpu or plan.compile)):
        return plan
    model = base.load(torch.float32)
    try:
        check_packing(model)
    except (PlanError, ValueError, TypeError, RuntimeError, AttributeError, KeyError):
        if asked:
            raise
        return plan
    if not asked and attention_span(model) < plan.max_length:
        return plan
    length = plan.pack_length or PACKED
    fits = length <= base.max_length or reads_rows_of(model, length)  # a row may be longer than what its documents see
    return dataclasses.replace(plan, pack_length=length if fits else base.max_length)


def _split_general(plan: Plan, records: list[Record]) -> tuple[list[Record], list[Record]]:
    """Return (pool to train on, dev retention items).

    The embedded pool ships its dev items; of others, a tenth of the records, at most 200, are the dev items, those with the
    lowest ids (hashes of their content).
    """
    home = embedded()
    if plan.general == home.general:
        return records, read_records(home.general_dev)
    ordered = sorted({record.id: record for record in records}.values(), key=lambda record: record.id)
    size = min(200, len(ordered) // 10)
    dev = {record.id for record in ordered[:size]}
    return [record for record in records if record.id not in dev], ordered[:size]


def _not_the_base(recipes: Iterable[Recipe]) -> list[str]:
    """Return notes on recipes that do not begin as the base."""
    return [
        f"{recipe.text} does not begin as the base: {method.unlike_base}. See its untrained row too; there is no path to it."
        for recipe in recipes
        for method in recipe.methods
        if method.unlike_base
    ]


def _not_saved(plan: Plan, recipes: Iterable[Recipe]) -> list[str]:
    """Return a note on recipes whose models cannot be saved, if the plan asks for models."""
    kept = ", ".join(recipe.text for recipe in recipes if not recipe.folds)
    if not (plan.checkpoint_fractions and kept):
        return []
    return [f"No models of {kept} are saved: what they add does not fold into the base's own weights."]


def _usable(recipes: Iterable[Recipe], has: dict[str, bool], texts: bool) -> tuple[tuple[Recipe, ...], tuple[str, ...]]:
    """Return the recipes that can run, and notes on those that need what this plan lacks.

    `texts`: the plan trains on plain texts. Raises PlanError if no recipe can run.
    """
    chosen, notes = [], []
    for recipe in recipes:
        missing = [cure for need, cure in CURES.items() if need in recipe.needs and not has[need]]
        if missing:
            notes.append(f"{recipe.text} is left out: it {missing[0]} to include it")
        elif texts and not recipe.packs:
            notes.append(f"{recipe.text} is left out: its virtual tokens stand once a row, and a packed row holds many texts")
        else:
            chosen.append(recipe)
    if not chosen:
        raise PlanError(*notes)
    return tuple(chosen), tuple(notes)


def sized(plan: Plan, recipes: Sequence[Recipe]) -> Plan:
    """Resolve micro-batches, checkpointing and sharding where the plan leaves them open: what fits its GPU, or defaults."""
    if plan.gpu:
        from harness.training.memory_estimate import way_of

        way = way_of(plan, recipes)
        changes = {"micro_tokens": way.micro_tokens, "gradient_checkpointing": way.checkpointing, "deepspeed": way.deepspeed}
        return dataclasses.replace(plan, **{key: value for key, value in changes.items() if getattr(plan, key) is None})
    changes = {"micro_tokens": plan.micro_tokens or 8192, "gradient_checkpointing": bool(plan.gradient_checkpointing)}
    return dataclasses.replace(plan, **changes)
