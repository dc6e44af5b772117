"""Material: everything that a plan's runs share, loaded and checked once.

All faults are reported together, before any run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.bundled import embedded
from harness.contract import Example, Need
from harness.data.contamination import ContaminatedTask
from harness.data.held_out import Family
from harness.data.split import Dataset
from harness.data.stages import joined
from harness.doing import doing
from harness.errors import PlanError
from harness.files.records import Record, read_records
from harness.models.base_model import BaseModel
from harness.plan.load import resolve_places
from harness.plan.plan import Plan
from harness.plan.settings import Settings
from harness.plan.values import Budget
from harness.recipes.optimizer import read_optimizer
from harness.recipes.recipe import Recipe
from harness.setup.inputs import SHARED, MeasuredModel, read_inputs
from harness.setup.machine import resolve_machine
from harness.setup.resolve import resolve
from harness.text.thoughts import split_thoughts
from harness.tokens.chat_template import ChatTemplate
from harness.tokens.examples import check_known
from harness.tokens.plain_texts import encode_texts
from harness.training.protocol import Training, TrainingData
from harness.vocabulary import Role

CURES = {
    Need.GENERAL_DATA: "needs general data; give GENERAL=file",
    Need.DEV_SCORES: "decides on general dev items; give GENERAL=file with 10 records or more",
    Need.STAGES: "needs two stages; give DATA=first.json,second.json",
}
"""What a recipe may need of a plan -> what the note on a recipe left out says."""


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
    contaminated: tuple[ContaminatedTask, ...] = ()
    """Suite items whose wording occurs in the training data; what they exclude is not evaluated."""
    families: tuple[Family, ...] = ()
    """What the general families share with the general pool."""
    measured: tuple[MeasuredModel, ...] = ()
    """Models tuned elsewhere; where nothing is trained, also the base itself, as the control."""

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
            optimizer=read_optimizer(plan.optimizer).text,
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


def encode(
    settings: Settings,
    template: ChatTemplate,
    records: Sequence[Record],
    source: str,
) -> list[Example]:
    """Return the training examples of records.

    Conversations go through the chat template and are cut to `max_length`; plain texts are kept
    whole, in pieces of `pack_length`.
    """
    doing(f"tokenising {len(records):,} {source} records")
    # Conversations go through the template; plain texts are cut into pieces of equal length.
    chats = [record for record in records if not record.text]
    texts = [record for record in records if record.text]
    examples: list[Example] = []
    if chats:
        examples += template.encode_all(chats, source, max_length=settings.max_length)

        # Then everything the domain says is learned, its questions too.
        if settings.prompt_loss and source == "domain":
            examples = [_all_supervised(example) for example in examples]
    pieces: list[Example] = []
    if texts:
        length = settings.pack_length or settings.max_length
        pieces = encode_texts(template.tokenizer, texts, source, length)
    check_known(template, pieces, source)
    return examples + pieces


def _all_supervised(example: Example) -> Example:
    """Return the example with every token learned."""
    return dataclasses.replace(example, supervised=(True,) * len(example))


def gather(plan: Plan) -> Material:
    """Load and check everything. Raises one PlanError with all faults."""
    # In this order: what the machine has decides what may be asked of it.
    plan = resolve_machine(resolve_places(plan))
    inputs = read_inputs(plan)
    base = inputs.base
    settings = resolve(plan, base, inputs.recipes, inputs.budget, inputs.kernels)

    pool, general_dev = _split_general(settings, inputs.general)
    dataset = joined(inputs.stages)

    # The template is asked for thoughts only where the training data has them.
    template = ChatTemplate(base.tokenizer, thinking=_thinks(dataset.train))
    domain = _domain_examples(settings, template, inputs.stages)
    pool_examples = encode(settings, template, pool, "general")

    # Recipes that need what this plan lacks are left out with a note.
    has = {
        Need.GENERAL_DATA: bool(pool_examples),
        Need.DEV_SCORES: bool(general_dev),
        Need.STAGES: len(inputs.stages) > 1,
    }
    recipes, left_out = _usable(inputs.recipes, has, texts=settings.mode == "cpt")
    of_inputs = [*base.notes, *dataset.notes, *inputs.unread, *template.notes, *left_out]
    return Material(
        plan=settings,
        base=base,
        template=template,
        dataset=dataset,
        stages=tuple(inputs.stages),
        pool=tuple(pool),
        general_dev=tuple(general_dev),
        training_data=TrainingData(domain, tuple(pool_examples)),
        recipes=recipes,
        budget=inputs.budget,
        notes=(*of_inputs, *_notes_on_runs(settings, recipes, inputs.measured)),
        measured=tuple(inputs.measured),
    )


def _domain_examples(
    settings: Settings,
    template: ChatTemplate,
    stages: Sequence[Dataset],
) -> tuple[Example, ...]:
    """Return the training examples of all stages, each with the number of its stage."""
    examples: list[Example] = []
    for number, stage in enumerate(stages, 1):
        for example in encode(settings, template, stage.train, "domain"):
            examples.append(dataclasses.replace(example, stage=number) if number > 1 else example)
    return tuple(examples)


def _notes_on_runs(
    settings: Settings,
    recipes: Sequence[Recipe],
    measured: Sequence[MeasuredModel],
) -> list[str]:
    """Return notes on the runs, and on models that are not saved or compared."""
    notes = _not_the_base(recipes)
    notes += _not_saved(settings, recipes)
    notes += _notes_on_measured(settings, measured)
    notes += read_optimizer(settings.optimizer).notes
    if settings.gpus_per_run < 1:
        share = f"{settings.gpus_per_run:g} of a GPU"
        notes.append(f"With {share} a run, {SHARED}: device-seconds are not to be compared.")
    return notes


def _notes_on_measured(settings: Settings, models: Sequence[MeasuredModel]) -> list[str]:
    """Return notes on the models tuned elsewhere.

    They say how each differs from the base, and what is not known of them.
    """
    rows = [model for model in models if model.role == Role.MEASURED]
    notes: list[str] = []
    for model in rows:
        notes += [f"{model.row}: {note}" for note in model.tuned.notes]
    # The split was made from the same file those models may have been trained on.
    if rows and settings.sources and not settings.test:
        names = ", ".join(dict.fromkeys(model.row for model in rows))
        notes.append(
            f"Whether {names} saw the domain's test records in training is not known here: the"
            " records were split from the data file. Give test records that nothing was trained on"
            " (TEST=)."
        )
    return notes


def _thinks(records: Sequence[Record]) -> bool:
    """Return whether answers are to begin with thoughts; fewer than a tenth are left out."""
    answers = 0
    with_thoughts = 0
    for record in records:
        for turn in record.messages:
            if turn.role != "assistant":
                continue
            answers += 1
            thoughts, _ = split_thoughts(turn.content)
            with_thoughts += thoughts is not None
    # A tenth: fewer are a habit of some records, not what the data teaches.
    return 10 * with_thoughts >= max(1, answers)


def _split_general(settings: Settings, records: list[Record]) -> tuple[list[Record], list[Record]]:
    """Return (pool to train on, dev retention items).

    The embedded pool ships its dev items; of others, a tenth of the records, at most 200, are the
    dev items, those with the lowest ids (hashes of their content).
    """
    shipped = embedded()
    # What Lethe ships comes with dev items of its own.
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
    # Adapters that do not fold have no plain model to save.
    texts = ", ".join(recipe.text for recipe in recipes if not recipe.folds)
    if not (settings.checkpoint_fractions and texts):
        return []
    reason = "what they add does not fold into the base's own weights"
    return [f"No models of {texts} are saved: {reason}."]


def _usable(
    recipes: Iterable[Recipe],
    has: dict[Need, bool],
    texts: bool,
) -> tuple[tuple[Recipe, ...], tuple[str, ...]]:
    """Return the recipes that can run, and notes on recipes whose needs this plan does not meet.

    `texts`: the plan trains on plain texts. Raises PlanError if no recipe can run.
    """
    usable = []
    notes = []
    for recipe in recipes:
        missing = [cure for need, cure in CURES.items() if need in recipe.needs and not has[need]]
        if missing:
            notes.append(f"{recipe.text} is left out: it {missing[0]} to include it")

        # Virtual tokens stand at a row's beginning, and a packed row has many texts.
        elif texts and not recipe.packs:
            reason = "its virtual tokens stand once a row, and a packed row holds many texts"
            notes.append(f"{recipe.text} is left out: {reason}")
        else:
            usable.append(recipe)
    if notes and not usable:
        raise PlanError(*notes)
    return tuple(usable), tuple(notes)
