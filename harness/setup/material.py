"""Material: everything that a plan's runs share, loaded and checked once. All faults are reported together, before any run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.bundled import embedded
from harness.contract import Example, Need
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
    Need.GENERAL_DATA: "needs general data; give GENERAL=file",
    Need.DEV_SCORES: "decides on general dev items; give GENERAL=file with 10 records or more",
    Need.STAGES: "needs two stages; give DATA=first.json,second.json",
}
"""What a recipe may need of a plan -> what the note on a recipe left out says."""

PACKED = 2048
"""Tokens of a packed row, unless the plan says otherwise."""
SHARED = "runs share a GPU, so a run's seconds depend on what else is there"


@dataclass(frozen=True)
class Material:
    """Everything that the runs of a plan share."""

    plan: Plan
    """The plan with every option resolved."""
    base: BaseModel
    template: ChatTemplate
    dataset: Dataset
    """The records of all stages, for training and testing."""
    stages: tuple[Dataset, ...]
    """The data files in the order of training."""
    pool: tuple[Record, ...]
    """General records that methods may train on."""
    general_dev: tuple[Record, ...]
    """Retention items for dev decisions; never trained on, never tested on."""
    training_data: TrainingData
    recipes: tuple[Recipe, ...]
    budget: Budget
    notes: tuple[str, ...]
    contaminated: tuple[Found, ...] = ()
    """Suite items whose wording occurs in the training data; what they exclude is not evaluated."""
    families: tuple[Family, ...] = ()
    """What the general families share with the general pool."""

    @property
    def training(self) -> Training:
        """The training protocol, with plain fine-tuning's learning rate."""
        plan = self.plan
        assert plan.precision is not None
        names = ("batch_size", "micro_tokens", "warmup", "decay", "weight_decay", "clip", "precision", "pack_length")
        options = {name: getattr(plan, name) for name in names}
        return Training(
            plan.learning_rate or default_rate(self.base.parameters),
            checkpointing=bool(plan.gradient_checkpointing),
            kernels=plan.kernels or "plain",
            compile=plan.compile,
            **options,
        )

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
    chats = [record for record in records if not record.text]
    texts = [record for record in records if record.text]
    examples: list[Example] = []
    if chats:
        examples += template.encode_all(chats, source, max_length=plan.max_length)
    pieces: list[Example] = []
    if texts:
        pieces = encode_texts(template.tokenizer, texts, source, plan.pack_length or plan.max_length)
    check_known(template, pieces, source)
    return examples + pieces


def gather(plan: Plan) -> Material:
    """Load and check everything. Raises one PlanError with all faults."""
    plan = resolve_machine(resolve_places(plan))
    inputs = _read_inputs(plan)
    plan = _resolved(plan, inputs)

    base = inputs.base
    pool, general_dev = _split_general(plan, inputs.general)
    dataset = joined(inputs.stages)
    template = ChatTemplate(base.tokenizer, thinking=_thinks(dataset.train))
    domain: list[Example] = []
    for number, stage in enumerate(inputs.stages, 1):
        for example in encode(plan, template, stage.train, "domain"):
            domain.append(dataclasses.replace(example, stage=number) if number > 1 else example)
    pool_examples = encode(plan, template, pool, "general")

    # Recipes that need what this plan lacks are left out with a note.
    has = {
        Need.GENERAL_DATA: bool(pool_examples),
        Need.DEV_SCORES: bool(general_dev),
        Need.STAGES: len(inputs.stages) > 1,
    }
    recipes, left_out = _usable(inputs.recipes, has, texts=plan.mode == "cpt")
    notes = [
        *base.notes,
        *dataset.notes,
        *inputs.unread,
        *template.notes,
        *left_out,
        *_not_the_base(recipes),
        *_not_saved(plan, recipes),
    ]
    if plan.gpus_per_run < 1:
        notes.append(f"With {plan.gpus_per_run:g} of a GPU a run, {SHARED}: device-seconds are not to be compared.")
    return Material(
        plan=plan,
        base=base,
        template=template,
        dataset=dataset,
        stages=tuple(inputs.stages),
        pool=tuple(pool),
        general_dev=tuple(general_dev),
        training_data=TrainingData(tuple(domain), tuple(pool_examples)),
        recipes=recipes,
        budget=inputs.budget,
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Inputs:
    """Everything that a plan names, read and free of faults."""

    budget: Budget
    recipes: list[Recipe]
    base: BaseModel
    stages: list[Dataset]
    general: list[Record]
    unread: list[str]
    """Notes on general records that were skipped."""
    kernels: str | None


def _read_inputs(plan: Plan) -> _Inputs:
    """Read what the plan names. Raises one PlanError with all faults."""
    faults: list[str] = []

    def attempt(action: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return action(*arguments, **options)
        except PlanError as error:
            faults.extend(error.faults)
            return None

    budget = attempt(parse_budget, plan.budget)
    recipes = []
    for text in plan.recipe_texts:
        recipe = attempt(parse_recipe, text)
        if recipe is not None:
            recipes.append(recipe)
    doing(f"reading and hashing the model {plan.model}")
    base = attempt(open_base, plan.model)
    trains_on_texts = plan.mode == "cpt"
    doing(f"reading {plan.data}, and looking for records that are alike")
    stages = attempt(load_stages, plan.sources, plan.tests, accept="text" if trains_on_texts else "chat")
    general: list[Record] = []
    unread: list[str] = []
    if plan.general:
        general = attempt(read_records, plan.general, "both" if trains_on_texts else "chat", unread)

    # What is refused although each part can be read.
    if budget and plan.gpus_per_run < 1 and meter_of(plan, budget) == "seconds":
        cure = "bind another meter, as --meter flops, or give a run a whole GPU"
        faults.append(f"with gpus_per_run {plan.gpus_per_run:g}, {SHARED}; {cure}")
    kernels = None
    if base:
        kernels = attempt(kernels_of, plan.kernels, plan.device, architecture_of(base.path))
    if plan.deepspeed:
        for recipe in recipes:
            fault = unsharded(recipe, len(plan.sources) > 1)
            if fault:
                faults.append(fault)

    # Recipes are tried on the model only where everything else can be read.
    raise_faults(faults or recipe_faults(base, recipes))
    return _Inputs(budget, recipes, base, stages, general, unread, kernels)


def _resolved(plan: Plan, inputs: _Inputs) -> Plan:
    """Return the plan with everything resolved that depends on model, budget and recipes. Raises PlanError."""
    plan = _resolve_lengths(plan, inputs.budget, inputs.base)
    plan = dataclasses.replace(sized(plan, inputs.recipes), kernels=inputs.kernels)
    raise_faults(device_faults(plan))  # faults of what the GPU's size decided
    return _packed_where_exact(plan, inputs.base)


def _thinks(records: Sequence[Record]) -> bool:
    """Return whether answers are to begin with thoughts: at least a tenth of the trained ones do. Fewer are left out."""
    answers = 0
    with_thoughts = 0
    for record in records:
        for turn in record.messages:
            if turn.role != "assistant":
                continue
            answers += 1
            thoughts, _ = split_thoughts(turn.content)
            with_thoughts += thoughts is not None
    return 10 * with_thoughts >= max(1, answers)


def _resolve_lengths(plan: Plan, budget: Budget, base: BaseModel) -> Plan:
    """Resolve the meter, tokens per example and packed row of plain texts, the scoring precision, and runs at once."""
    pack_length = plan.pack_length
    if plan.mode == "cpt":
        pack_length = min(plan.pack_length or PACKED, base.max_length)
    plan = resolve_workers(plan, base.parameters)
    return dataclasses.replace(
        plan,
        meter=meter_of(plan, budget),
        scoring=scoring_of(plan, base.parameters),
        max_length=min(base.max_length, plan.max_length or 2048),
        pack_length=pack_length,
    )


def _packed_where_exact(plan: Plan, base: BaseModel) -> Plan:
    """Return the plan with the length of packed rows, after a trial of the model that packs.

    Conversations are packed by default on a CPU, where FLOPs are charged, padding included; on a GPU seconds are. A model that
    shows packed texts to each other, or attends over less than the longest example, is packed only if the plan asks for it.
    Raises PlanError if it does.
    """
    assert plan.max_length is not None
    requested = plan.pack_length is not None
    by_default = plan.device == "cpu" and not plan.gpu and not plan.compile
    if plan.pack_length == 0 or not (requested or by_default):
        return plan

    # A model that cannot be packed stays padded, unless packing was requested.
    model = base.load(torch.float32)
    try:
        check_packing(model)
    except (PlanError, ValueError, TypeError, RuntimeError, AttributeError, KeyError):
        if requested:
            raise
        return plan
    if not requested and attention_span(model) < plan.max_length:
        return plan

    # Rows are micro-batches: a limit on these that the user gave holds for rows too. A row may be longer than the model's
    # context, since each of its documents sees only itself.
    length = plan.pack_length or min(PACKED, plan.micro_tokens or PACKED)
    fits = length <= base.max_length or reads_rows_of(model, length)
    return dataclasses.replace(plan, pack_length=length if fits else base.max_length)


def _split_general(plan: Plan, records: list[Record]) -> tuple[list[Record], list[Record]]:
    """Return (pool to train on, dev retention items).

    The embedded pool ships its dev items; of others, a tenth of the records, at most 200, are the dev items, those with the
    lowest ids (hashes of their content).
    """
    shipped = embedded()
    if plan.general == shipped.general:
        return records, read_records(shipped.general_dev)
    unique = {record.id: record for record in records}
    ordered = sorted(unique.values(), key=lambda record: record.id)
    dev = ordered[: min(200, len(ordered) // 10)]
    dev_ids = {record.id for record in dev}
    return [record for record in records if record.id not in dev_ids], dev


def _not_the_base(recipes: Iterable[Recipe]) -> list[str]:
    """Return notes on recipes that do not begin as the base."""
    notes = []
    for recipe in recipes:
        for method in recipe.methods:
            if method.unlike_base:
                reason = f"{recipe.text} does not begin as the base: {method.unlike_base}."
                notes.append(f"{reason} See its untrained row too; there is no path to it.")
    return notes


def _not_saved(plan: Plan, recipes: Iterable[Recipe]) -> list[str]:
    """Return a note on recipes whose models cannot be saved, if the plan asks for models."""
    texts = ", ".join(recipe.text for recipe in recipes if not recipe.folds)
    if not (plan.checkpoint_fractions and texts):
        return []
    return [f"No models of {texts} are saved: what they add does not fold into the base's own weights."]


def _usable(recipes: Iterable[Recipe], has: dict[Need, bool], texts: bool) -> tuple[tuple[Recipe, ...], tuple[str, ...]]:
    """Return the recipes that can run, and notes on those that need what this plan lacks.

    `texts`: the plan trains on plain texts. Raises PlanError if no recipe can run.
    """
    usable = []
    notes = []
    for recipe in recipes:
        missing = [cure for need, cure in CURES.items() if need in recipe.needs and not has[need]]
        if missing:
            notes.append(f"{recipe.text} is left out: it {missing[0]} to include it")
        elif texts and not recipe.packs:
            notes.append(f"{recipe.text} is left out: its virtual tokens stand once a row, and a packed row holds many texts")
        else:
            usable.append(recipe)
    if not usable:
        raise PlanError(*notes)
    return tuple(usable), tuple(notes)


def sized(plan: Plan, recipes: Sequence[Recipe]) -> Plan:
    """Resolve micro-batches, checkpointing and sharding where the plan leaves them open: what fits its GPU, or defaults."""
    if not plan.gpu:
        return dataclasses.replace(
            plan,
            micro_tokens=plan.micro_tokens or 8192,
            gradient_checkpointing=bool(plan.gradient_checkpointing),
        )
    from harness.training.memory_estimate import way_of

    way = way_of(plan, recipes)
    fitting = {"micro_tokens": way.micro_tokens, "gradient_checkpointing": way.checkpointing, "deepspeed": way.deepspeed}
    unset = {option: value for option, value in fitting.items() if getattr(plan, option) is None}
    return dataclasses.replace(plan, **unset)
