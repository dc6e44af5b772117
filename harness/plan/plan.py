"""One frozen, validated description of a comparison. No torch here: `lethe --help` and `lethe report` start at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from harness.plan.measured import MeasuredRow, read_measured
from harness.store.opening import exists, test_files

DEFAULT_RECIPES = "sft low_lr lora nlirg lora+nlirg mix replay distill ewc"
DEFAULT_BUDGET = "3epochs"
"""Of a model of one's own; the embedded world says its own in its suite.toml."""


def option(default: Any, text: str) -> Any:
    """Return a field of the plan with its one-line description, shown by --help."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class DataOptions:
    """What is learnt, and how texts become examples."""

    data: str = option(
        "finance.json", "data file, bundled name, or hub data set; several joined by commas are trained on in turn"
    )
    test: str | None = option(
        None, "test files of the data, joined by +; those of several data files by commas; default: split from the data"
    )
    general: str | None = option(
        None, "pool of general data for mix, replay, EWC ...; default: the embedded pool with its base, else none"
    )
    contamination: str = option(
        "exclude", "suite items whose wording stands in training data: exclude, or keep (counted either way)"
    )
    rules: str | None = option(
        None, "rules.yaml: patterns, JSON schema and bounds that domain outputs must keep (docs/suites.md)"
    )
    answer_format: str | None = option(
        None, "what every domain answer must look like: a regular expression, or a .json file with a JSON schema"
    )
    mode: str = option(
        "sft", "sft: records are conversations; cpt: continued pre-training on plain text (.txt, or a field `text`)"
    )
    template: str | None = option(
        None,
        "how a question is written in place of the model's chat template, as 'Question: {question}\\nAnswer:'; the answer"
        " follows behind a blank and ends with the end token; default: the chat template",
    )
    prompt_loss: bool = option(
        False, "train on the tokens of the domain's prompts too, as some published comparisons do; default: on answers only"
    )
    max_length: int | None = option(None, "longest training sequence in tokens; default: the model's, at most 2048")
    pack_length: int | None = option(
        None,
        "tokens a packed row, examples end to end without padding; 0: padded; default: 2048 in mode cpt (longer texts are cut)"
        " and on a CPU where packing is exact, else padded",
    )

    @property
    def sources(self) -> list[str]:
        """The data files, in the order of training; none where nothing is trained and the domain is not measured."""
        return _listed(self.data) if self.data else []

    @property
    def tests(self) -> list[str | None]:
        """A test file for each data file, or None."""
        if not self.test:
            return [None] * len(self.sources)
        return [test or None for test in _listed(self.test)]

    @property
    def test_paths(self) -> list[str]:
        """Every test file of every data file."""
        paths = []
        for test in self.tests:
            if test:
                paths += test_files(test)
        return paths


@dataclass(frozen=True)
class TrainingOptions:
    """Which model and methods, under which budget, and the arithmetic of a step."""

    model: str | None = option(None, "hub id or folder; default: the embedded base")
    recipes: str = option(
        DEFAULT_RECIPES, "methods joined by +, separated by spaces; base and zero-budget control are always added"
    )
    measured: str | None = option(
        None,
        "models tuned elsewhere, as rows of their own track: name=PLACE, several separated by spaces; a place is a folder, hub"
        " id, adapter or run of a store; name=a,b for seeds of one recipe (docs/measure.md)",
    )
    budget: str | None = option(
        None,
        "per run: 3epochs (the price of plain fine-tuning), 600s, 2e15flops, 1Mtokens or 500steps; default: 3epochs, and"
        " 2epochs with the embedded base",
    )
    meter: str | None = option(None, "what binds: flops, seconds, tokens or steps; default: seconds on a GPU, flops on a CPU")
    seeds: int | None = option(None, "runs of each recipe; default: 1 on a CPU, 3 on a GPU")
    tune: int = option(0, "trials for each recipe over its own search space, selected on dev items; 0: untuned defaults")
    tune_rule: str = option(
        "price",
        "how a setting is selected: price (the highest gain of those that lose no more a point gained than plain fine-tuning),"
        " price=POINTS, loss=POINTS (lost in all) or gain",
    )
    tune_points: int = option(3, "settings of each tuned recipe that are scored on test items, the selected one included")
    learning_rate: float | None = option(None, "of plain fine-tuning; default: 2e-5 * sqrt(1e9 / parameters), at most 1e-3")
    batch_size: int = option(32, "examples an optimizer step")
    micro_tokens: int | None = option(None, "padded tokens a micro-batch, at most; default: 8192, or by gpu")
    warmup: float = option(0.05, "share of the budget over which the learning rate rises")
    decay: str = option("cosine", "how the learning rate falls to the budget's end: cosine, linear or constant (does not)")
    optimizer: str = option(
        "adamw",
        "of every recipe, with torch's settings: adamw, as adamw(beta1=0.9, beta2=0.999, eps=1e-8), sgd(momentum=0) or"
        " adafactor, whose rate is relative to each weight's size",
    )
    weight_decay: float = option(0.0, "the optimizer's decay to zero")
    clip: float = option(1.0, "largest gradient norm")
    precision: str | None = option(
        None, "training arithmetic, bfloat16 or float32 (masters are always fp32); default: bfloat16 where fast"
    )
    kernels: str | None = option(
        None,
        "norms, rotary embedding, SwiGLU: plain, or liger (pip install 'lethe[liger]'); default: liger on GPUs, if installed",
    )
    compile: bool = option(
        False,
        "let torch compile the blocks: minutes at the start (not charged), then faster; resumed runs end alike to rounding",
    )
    gradient_checkpointing: bool | None = option(
        None, "recompute activations in the backward pass: less memory, more FLOPs, the same losses; default: off, or by gpu"
    )

    @property
    def measured_models(self) -> tuple[MeasuredRow, ...]:
        """The models tuned elsewhere. Raises PlanError where they cannot be read."""
        return read_measured(self.measured) if self.measured else ()

    @property
    def measured_places(self) -> list[str]:
        """Folders or hub ids of these models, all seeds of all rows."""
        places: list[str] = []
        for row in self.measured_models:
            places += row.places
        return places

    @property
    def recipe_texts(self) -> list[str]:
        """The recipes as they are written."""
        return split_recipes(self.recipes)


@dataclass(frozen=True)
class EvaluationOptions:
    """What every model is asked, and how that is scored."""

    suites: str | None = option(
        None,
        "general suites: bundled names, standard:FOLDER for local copies, folders of JSONL or lm-eval YAML, JSONL files, "
        "lm-eval tasks; default: the embedded model's, or dialogue and standard",
    )
    domain_metric: str | None = option(
        None,
        "exact, f1, rougeL, choice, numeric or numeric(1%, USD), or kind=metric for one kind; default: picked from the answers",
    )
    limit: int | None = option(None, "items of each task at most, hash-sampled: always the same ones; default: all")
    backend: str = option("hf", "what answers evaluations' requests: hf (the loaded model), or vllm where it is installed")
    scoring: str | None = option(
        None, "arithmetic of evaluations, float32 or bfloat16; default: float32 where a GPU has 16 bytes for each parameter"
    )
    final_only: bool = option(False, "score finished models only: no curve along the way, no line from the base; sooner done")
    probe: bool = option(
        False, "train a copy of each finished model on 50 general examples: is what was lost recoverable? (not charged)"
    )

    @property
    def suite_names(self) -> list[str]:
        """The suites, in the order given."""
        return self.suites.split() if self.suites else []


@dataclass(frozen=True)
class DeviceOptions:
    """Where runs train, and how many at once."""

    device: str | None = option(None, "cpu or cuda; default: cuda where there is one")
    gpu: str | None = option(
        None,
        "the GPU that runs are sized for (4090, a100-80, h200 ...): what fits is chosen of micro_tokens,"
        " gradient_checkpointing and deepspeed, where they are not given",
    )
    gpus_per_run: float = option(1.0, "GPUs of one run, a process each (on a CPU: processes); with ray also 0.5 and the like")
    devices: str | None = option(None, "GPUs that runs may use, as 0,1,2,3; default: all that are seen")
    deepspeed: str | None = option(
        None,
        "how a run is sharded over its GPUs: zero2, zero3, either with -offload (to CPU memory), or a DeepSpeed JSON;"
        " default: not, every GPU has the whole model",
    )
    threads: int = option(1, "CPU threads a run (of each of its processes)")
    workers: int | None = option(None, "runs at once; default: one a core on a CPU, 1 on a GPU; with ray all that fit")
    ray: str | None = option(None, "spread the runs over a Ray cluster: auto, or the address of its head (docs/cluster.md)")

    @property
    def ranks(self) -> int:
        """The processes of one run."""
        return max(1, int(self.gpus_per_run))

    @property
    def has_ranks(self) -> bool:
        """Whether the processes of a run are started as ranks: several, or under DeepSpeed."""
        return self.ranks > 1 or bool(self.deepspeed)


@dataclass(frozen=True)
class StorageOptions:
    """Where results are, and what is kept of a run."""

    name: str | None = option(None, "results/<name>; default: stem of the data, with the model's name when one is given")
    out: str = option("results", "where results and the run store are: a folder, or s3://bucket/folder and the like")
    keep: float = option(20.0, "GB of full weights kept under results/runs")
    checkpoints: str | None = option(
        None,
        "fractions of the budget at which each run saves its model for transformers to load: 0.5,1 (early stops: none later)",
    )
    checkpoint_every: float = option(30.0, "seconds between two checkpoints of a running training, from which it resumes")

    @property
    def checkpoint_fractions(self) -> tuple[float, ...]:
        """The fractions of `checkpoints` in rising order. Raises ValueError where they are not numbers."""
        if not self.checkpoints:
            return ()
        return tuple(sorted({float(part) for part in self.checkpoints.split(",")}))


@dataclass(frozen=True)
class ReportOptions:
    """The limits that choose a recipe, and where curves are shown."""

    require: str | None = option(
        None,
        "limits of the recipe that the report chooses, and of `lethe measure --gate`: any of loss=5 (points) retention=95"
        " family=10 (points that no family may lose) seconds=600 memory=16GB",
    )
    report_to: str = option(
        "tensorboard",
        "where curves are shown while runs train: tensorboard, wandb, mlflow, trackio, several joined by +, or none",
    )
    tensorboard: str | None = option(None, "folder for TensorBoard; default: <out>/<name>/tensorboard")


@dataclass(frozen=True)
class Plan(ReportOptions, StorageOptions, DeviceOptions, EvaluationOptions, TrainingOptions, DataOptions):
    """Everything that may be asked, in six sections. None: not given, and Lethe decides (harness/plan/settings.py).

    Each field is a flag, a key of the TOML file and, in capitals, a make variable. A dataclass takes the fields of its last
    base first.
    """


SECTIONS: dict[str, type] = {
    "Data": DataOptions,
    "Training": TrainingOptions,
    "Evaluation": EvaluationOptions,
    "Devices": DeviceOptions,
    "Storage": StorageOptions,
    "Report": ReportOptions,
}
"""Title -> section, in the order of the options."""


def kind_of(option: str) -> type:
    """Return the type of an option's value where it is given: str, int, float or bool."""
    hint = _type_hints()[option]
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    return kinds[0] if kinds else hint


@cache
def _type_hints() -> dict[str, Any]:
    """Return option -> type of its value. Each look-up compiles the types of all options, so there is one."""
    return get_type_hints(Plan)


def _listed(text: str) -> list[str]:
    """Return names that are joined by commas; a file that has a comma in its name is itself."""
    return [text] if exists(Path(text)) else [part.strip() for part in text.split(",")]


def split_recipes(text: str) -> list[str]:
    """Return recipes that are separated by spaces; spaces inside parentheses belong to a recipe."""
    recipes = []
    depth = 0
    current = ""
    for letter in text + " ":
        depth += (letter == "(") - (letter == ")")
        if letter.isspace() and depth == 0:
            recipes.append(current)
            current = ""
        else:
            current += letter
    recipes.append(current.strip())  # where a parenthesis was never closed
    return [recipe for recipe in recipes if recipe]
