"""Material: everything that a plan's runs share, loaded and checked once. All faults are reported together, before any run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.bundled import embedded
from harness.contract import Example, Need
from harness.data.contamination import Found
from harness.data.held_out import Family
from harness.data.split import Dataset, joined, load_stages
from harness.data.tested_only import dataset_of_tests
from harness.decoding.open_model import open_base
from harness.doing import doing
from harness.errors import PlanError, raise_faults
from harness.files.records import Record, read_records
from harness.measured.tuned import Tuned, open_tuned
from harness.models.base_model import BaseModel, architecture_of
from harness.models.kernels import kernels_of
from harness.plan.load import resolve_places
from harness.plan.plan import Plan
from harness.plan.settings import Settings
from harness.plan.values import Budget, parse_budget
from harness.recipes.recipe import Recipe, parse_recipe, unsharded
from harness.setup.machine import meter_of, resolve_machine
from harness.setup.recipe_trial import recipe_faults
from harness.setup.resolve import resolve
from harness.text.thoughts import split_thoughts
from harness.tokens.chat_template import ChatTemplate
from harness.tokens.examples import check_known
from harness.tokens.plain_texts import encode_texts
from harness.tokens.template_text import plain_form
from harness.training.protocol import Training, TrainingData
from harness.vocabulary import Role

CURES = {
    Need.GENERAL_DATA: "needs general data; give GENERAL=file",
    Need.DEV_SCORES: "decides on general dev items; give GENERAL=file with 10 records or more",
    Need.STAGES: "needs two stages; give DATA=first.json,second.json",
}
"""What a recipe may need of a plan -> what the note on a recipe left out says."""

SHARED = "runs share a GPU, so a run's seconds depend on what else is there"


@dataclass(frozen=True)
class MeasuredModel:
    """A model that is a row without being trained here."""

    row: str
    role: Role
    """`MEASURED`; `CONTROL` where it is the base, opened as the others are."""
    seed: int
    """Place among the models of its row."""
    tuned: Tuned


@dataclass(frozen=True)
class Material:
    """Everything that the runs of a plan share."""

    plan: Settings
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
    measured: tuple[MeasuredModel, ...] = ()
    """Models tuned elsewhere; where nothing is trained the base itself is among them, as the control."""

    @property
    def training(self) -> Training:
        """The training protocol, with plain fine-tuning's learning rate."""
        plan = self.plan
        return Training(
            learning_rate=plan.learning_rate,
            batch_size=plan.batch_size,
            micro_tokens=plan.micro_tokens,
            warmup=plan.warmup,
            decay=plan.decay,
            weight_decay=plan.weight_decay,
            clip=plan.clip,
            precision=plan.precision,
            pack_length=plan.pack_length,
            checkpointing=plan.gradient_checkpointing,
            kernels=plan.kernels,
            compile=plan.compile,
        )

    def encode(self, records: Sequence[Record], source: str) -> list[Example]:
        """Return the training examples of these records."""
        return encode(self.plan, self.template, records, source)


def encode(settings: Settings, template: ChatTemplate, records: Sequence[Record], source: str) -> list[Example]:
    """Return the training examples of records.

    Conversations go through the chat template and are cut to `max_length`; plain texts are kept whole, in pieces of
    `pack_length`.
    """
    doing(f"tokenising {len(records):,} {source} records")
    chats = [record for record in records if not record.text]
    texts = [record for record in records if record.text]
    examples: list[Example] = []
    if chats:
        examples += template.encode_all(chats, source, max_length=settings.max_length)
        if settings.prompt_loss and source == "domain":
            examples = [dataclasses.replace(example, supervised=(True,) * len(example)) for example in examples]
    pieces: list[Example] = []
    if texts:
        pieces = encode_texts(template.tokenizer, texts, source, settings.pack_length or settings.max_length)
    check_known(template, pieces, source)
    return examples + pieces


def gather(plan: Plan) -> Material:
    """Load and check everything. Raises one PlanError with all faults."""
    plan = resolve_machine(resolve_places(plan))
    inputs = _read_inputs(plan)
    base = inputs.base
    settings = resolve(plan, base, inputs.recipes, inputs.budget, inputs.kernels)

    # The domain's examples carry the number of their stage; general ones belong to all.
    pool, general_dev = _split_general(settings, inputs.general)
    dataset = joined(inputs.stages)
    template = ChatTemplate(base.tokenizer, thinking=_thinks(dataset.train))
    domain: list[Example] = []
    for number, stage in enumerate(inputs.stages, 1):
        for example in encode(settings, template, stage.train, "domain"):
            domain.append(dataclasses.replace(example, stage=number) if number > 1 else example)
    pool_examples = encode(settings, template, pool, "general")

    # Recipes that need what this plan lacks are left out with a note.
    has = {
        Need.GENERAL_DATA: bool(pool_examples),
        Need.DEV_SCORES: bool(general_dev),
        Need.STAGES: len(inputs.stages) > 1,
    }
    recipes, left_out = _usable(inputs.recipes, has, texts=settings.mode == "cpt")
    notes = [
        *base.notes,
        *dataset.notes,
        *inputs.unread,
        *template.notes,
        *left_out,
        *_not_the_base(recipes),
        *_not_saved(settings, recipes),
        *_notes_on_measured(settings, inputs.measured),
    ]
    if settings.gpus_per_run < 1:
        notes.append(f"With {settings.gpus_per_run:g} of a GPU a run, {SHARED}: device-seconds are not to be compared.")
    return Material(
        plan=settings,
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
        measured=tuple(inputs.measured),
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
    kernels: str
    measured: list[MeasuredModel]


def _read_inputs(plan: Plan) -> _Inputs:
    """Read what the plan names. Raises one PlanError with all faults."""
    faults: list[str] = []

    def attempt(action: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return action(*arguments, **options)
        except PlanError as error:
            faults.extend(error.faults)
            return None

    # Every part is read, however many of them have faults.
    budget = attempt(parse_budget, plan.budget)
    recipes = []
    for text in plan.recipe_texts:
        recipe = attempt(parse_recipe, text)
        if recipe is not None:
            recipes.append(recipe)
    doing(f"reading and hashing the model {plan.model}")
    base = attempt(open_base, plan.model)
    if base and plan.template:
        base.tokenizer.chat_template = plain_form(plan.template)
    trains_on_texts = plan.mode == "cpt"
    stages = attempt(_read_stages, plan)
    general: list[Record] = []
    unread: list[str] = []
    if plan.general:
        general = attempt(read_records, plan.general, "both" if trains_on_texts else "chat", unread)

    # What is refused although each part can be read.
    if budget and plan.gpus_per_run < 1 and meter_of(plan, budget) == "seconds":
        cure = "bind another meter, as --meter flops, or give a run a whole GPU"
        faults.append(f"with gpus_per_run {plan.gpus_per_run:g}, {SHARED}; {cure}")
    kernels = ""
    if base:
        kernels = attempt(kernels_of, plan.kernels, plan.device, architecture_of(base.path))
    if plan.deepspeed:
        for recipe in recipes:
            fault = unsharded(recipe, len(plan.sources) > 1)
            if fault:
                faults.append(fault)

    # Recipes are tried on the model, and models held against it, only where everything else can be read.
    measured = [] if faults else _open_measured(plan, base, faults)
    raise_faults(faults or recipe_faults(base, recipes))
    return _Inputs(budget, recipes, base, stages, general, unread, kernels, measured)


def _read_stages(plan: Plan) -> list[Dataset]:
    """Return the plan's data files, split; where it has none, its test records alone."""
    accept = "text" if plan.mode == "cpt" else "chat"
    if not plan.sources:
        return [dataset_of_tests(plan.test, accept)]
    doing(f"reading {plan.data}, and looking for records that are alike")
    return load_stages(plan.sources, plan.tests, accept=accept)


CONTROL = "zero budget"
"""Row of the control."""


def _open_measured(plan: Plan, base: BaseModel, faults: list[str]) -> list[MeasuredModel]:
    """Return the models tuned elsewhere; the base too where nothing is trained, since there is no other control then.

    What is wrong with them is added to `faults`.
    """
    models: list[MeasuredModel] = []
    if not plan.recipe_texts:
        models.append(MeasuredModel(CONTROL, Role.CONTROL, 0, open_tuned(base.path, base)))
    for requested in plan.measured_models:
        for seed, path in enumerate(requested.places):
            doing(f"reading and hashing {path}")
            try:
                models.append(MeasuredModel(requested.row, Role.MEASURED, seed, open_tuned(path, base)))
            except PlanError as error:
                faults.extend(error.faults)
    return models


def _notes_on_measured(settings: Settings, models: Sequence[MeasuredModel]) -> list[str]:
    """Return notes on the models tuned elsewhere: how each differs from the base, and what is not known of them."""
    rows = [model for model in models if model.role == Role.MEASURED]
    notes = [f"{model.row}: {note}" for model in rows for note in model.tuned.notes]
    if rows and settings.sources and not settings.test:
        names = ", ".join(dict.fromkeys(model.row for model in rows))
        notes.append(
            f"Whether {names} saw the domain's test records in training is not known here: the records were split from"
            " the data file. Give test records that nothing was trained on (TEST=)."
        )
    return notes


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


def _split_general(settings: Settings, records: list[Record]) -> tuple[list[Record], list[Record]]:
    """Return (pool to train on, dev retention items).

    The embedded pool ships its dev items; of others, a tenth of the records, at most 200, are the dev items, those with the
    lowest ids (hashes of their content).
    """
    shipped = embedded()
    if settings.general == shipped.general:
        return records, read_records(shipped.general_dev)

    # The dev items are chosen by a hash, so that they stay when records are added elsewhere.
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


def _not_saved(settings: Settings, recipes: Iterable[Recipe]) -> list[str]:
    """Return a note on recipes whose models cannot be saved, if the plan asks for models."""
    texts = ", ".join(recipe.text for recipe in recipes if not recipe.folds)
    if not (settings.checkpoint_fractions and texts):
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
    if notes and not usable:
        raise PlanError(*notes)
    return tuple(usable), tuple(notes)
