"""The Python API. Written by `make docs` from the fields of harness/plan/plan.py; change those, not this."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING

from lethe.process import carried_out

if TYPE_CHECKING:
    import pandas as pd


def compare(  # noqa: PLR0913
    plan: str | PathLike[str] | None = None,
    *,
    quiet: bool = False,
    data: str | PathLike[str] | None = None,
    test: str | PathLike[str] | None = None,
    general: str | PathLike[str] | None = None,
    contamination: str | None = None,
    rules: str | PathLike[str] | None = None,
    answer_format: str | PathLike[str] | None = None,
    mode: str | None = None,
    template: str | None = None,
    prompt_loss: bool | None = None,
    max_length: int | None = None,
    pack_length: int | None = None,
    model: str | PathLike[str] | None = None,
    recipes: str | Sequence[str] | None = None,
    measured: str | Sequence[str] | None = None,
    budget: str | None = None,
    meter: str | None = None,
    seeds: int | None = None,
    tune: int | None = None,
    tune_rule: str | None = None,
    tune_points: int | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    micro_tokens: int | None = None,
    warmup: float | None = None,
    decay: str | None = None,
    optimizer: str | None = None,
    weight_decay: float | None = None,
    clip: float | None = None,
    precision: str | None = None,
    kernels: str | None = None,
    compile: bool | None = None,
    gradient_checkpointing: bool | None = None,
    suites: str | Sequence[str] | None = None,
    domain_metric: str | None = None,
    limit: int | None = None,
    backend: str | None = None,
    scoring: str | None = None,
    final_only: bool | None = None,
    probe: bool | None = None,
    device: str | None = None,
    gpu: str | None = None,
    gpus_per_run: float | None = None,
    devices: str | None = None,
    deepspeed: str | PathLike[str] | None = None,
    threads: int | None = None,
    workers: int | None = None,
    ray: str | None = None,
    name: str | None = None,
    out: str | PathLike[str] | None = None,
    keep: float | None = None,
    checkpoints: str | None = None,
    checkpoint_every: float | None = None,
    require: str | None = None,
    report_to: str | None = None,
    tensorboard: str | PathLike[str] | None = None,
) -> pd.DataFrame:
    """Run a comparison and return its table, one line for each row (pandas).

    Every run that the store lacks is made; what is there already is not made again. Results and report are written to
    `<out>/<name>/`. An option that is not given has the value of the plan file, else the default named below.

    Args:
        plan: A TOML file with any of these options, or a preset for usual hardware; options given here win over it.
        quiet: Show no progress.
        data: data file, bundled name, or hub data set; several joined by commas are trained on in turn (default:
            finance.json).
        test: test files of the data, joined by +; those of several data files by commas; default: split from the data.
        general: pool of general data for mix, replay, EWC ...; default: the embedded pool with its base, else none.
        contamination: suite items whose wording stands in training data: exclude, or keep (counted either way)
            (default: exclude).
        rules: rules.yaml: patterns, JSON schema and bounds that domain outputs must keep (docs/suites.md).
        answer_format: what every domain answer must look like: a regular expression, or a .json file with a JSON
            schema.
        mode: sft: records are conversations; cpt: continued pre-training on plain text (.txt, or a field `text`)
            (default: sft).
        template: how a question is written in place of the model's chat template, as 'Question: {question}\\nAnswer:';
            the answer follows behind a blank and ends with the end token; default: the chat template.
        prompt_loss: train on the tokens of the domain's prompts too, as some published comparisons do; default: on
            answers only (default: False).
        max_length: longest training sequence in tokens; default: the model's, at most 2048.
        pack_length: tokens a packed row, examples end to end without padding; 0: padded; default: 2048 in mode cpt
            (longer texts are cut) and on a CPU where packing is exact, else padded.
        model: hub id or folder; default: the embedded base.
        recipes: methods joined by +, separated by spaces; base and zero-budget control are always added (default: sft
            low_lr lora nlirg lora+nlirg mix replay distill ewc).
        measured: models tuned elsewhere, as rows of their own track: name=PLACE, several separated by spaces; a place
            is a folder, hub id, adapter or run of a store; name=a,b for seeds of one recipe (docs/measure.md).
        budget: per run: 3epochs (the price of plain fine-tuning), 600s, 2e15flops, 1Mtokens or 500steps; default:
            3epochs, and 2epochs with the embedded base.
        meter: what binds: flops, seconds, tokens or steps; default: seconds on a GPU, flops on a CPU.
        seeds: runs of each recipe; default: 1 on a CPU, 3 on a GPU.
        tune: trials for each recipe over its own search space, selected on dev items; 0: untuned defaults (default: 0).
        tune_rule: how a setting is selected: price (the highest gain of those that lose no more a point gained than
            plain fine-tuning), price=POINTS, loss=POINTS (lost in all) or gain (default: price).
        tune_points: settings of each tuned recipe that are scored on test items, the selected one included (default:
            3).
        learning_rate: of plain fine-tuning; default: 2e-5 * sqrt(1e9 / parameters), at most 1e-3.
        batch_size: examples an optimizer step (default: 32).
        micro_tokens: padded tokens a micro-batch, at most; default: 8192, or by gpu.
        warmup: share of the budget over which the learning rate rises (default: 0.05).
        decay: how the learning rate falls to the budget's end: cosine, linear or constant (does not) (default: cosine).
        optimizer: of every recipe, with torch's settings: adamw, as adamw(beta1=0.9, beta2=0.999, eps=1e-8),
            sgd(momentum=0) or adafactor, whose rate is relative to each weight's size (default: adamw).
        weight_decay: the optimizer's decay to zero (default: 0.0).
        clip: largest gradient norm (default: 1.0).
        precision: training arithmetic, bfloat16 or float32 (masters are always fp32); default: bfloat16 where fast.
        kernels: norms, rotary embedding, SwiGLU: plain, or liger (pip install 'lethe[liger]'); default: liger on GPUs,
            if installed.
        compile: let torch compile the blocks: minutes at the start (not charged), then faster; resumed runs end alike
            to rounding (default: False).
        gradient_checkpointing: recompute activations in the backward pass: less memory, more FLOPs, the same losses;
            default: off, or by gpu.
        suites: general suites: bundled names, standard:FOLDER for local copies, folders of JSONL or lm-eval YAML, JSONL
            files, lm-eval tasks; default: the embedded model's, or dialogue and standard.
        domain_metric: exact, f1, rougeL, choice, numeric or numeric(1%, USD), or kind=metric for one kind; default:
            picked from the answers.
        limit: items of each task at most, hash-sampled: always the same ones; default: all.
        backend: what answers evaluations' requests: hf (the loaded model), or vllm where it is installed (default: hf).
        scoring: arithmetic of evaluations, float32 or bfloat16; default: float32 where a GPU has 16 bytes for each
            parameter.
        final_only: score finished models only: no curve along the way, no line from the base; sooner done (default:
            False).
        probe: train a copy of each finished model on 50 general examples: is what was lost recoverable? (not charged)
            (default: False).
        device: cpu or cuda; default: cuda where there is one.
        gpu: the GPU that runs are sized for (4090, a100-80, h200 ...): what fits is chosen of micro_tokens,
            gradient_checkpointing and deepspeed, where they are not given.
        gpus_per_run: GPUs of one run, a process each (on a CPU: processes); with ray also 0.5 and the like (default:
            1.0).
        devices: GPUs that runs may use, as 0,1,2,3; default: all that are seen.
        deepspeed: how a run is sharded over its GPUs: zero2, zero3, either with -offload (to CPU memory), or a
            DeepSpeed JSON; default: not, every GPU has the whole model.
        threads: CPU threads a run (of each of its processes) (default: 1).
        workers: runs at once; default: one a core on a CPU, 1 on a GPU; with ray all that fit.
        ray: spread the runs over a Ray cluster: auto, or the address of its head (docs/cluster.md).
        name: results/<name>; default: stem of the data, with the model's name when one is given.
        out: where results and the run store are: a folder, or s3://bucket/folder and the like (default: results).
        keep: GB of full weights kept under results/runs (default: 20.0).
        checkpoints: fractions of the budget at which each run saves its model for transformers to load: 0.5,1 (early
            stops: none later).
        checkpoint_every: seconds between two checkpoints of a running training, from which it resumes (default: 30.0).
        require: limits of the recipe that the report chooses, and of `lethe measure --gate`: any of loss=5 (points)
            retention=95 family=10 (points that no family may lose) seconds=600 memory=16GB.
        report_to: where curves are shown while runs train: tensorboard, wandb, mlflow, trackio, several joined by +, or
            none (default: tensorboard).
        tensorboard: folder for TensorBoard; default: <out>/<name>/tensorboard.

    Returns:
        The table of the report: gain, retention and costs of each row, with intervals.

    Raises:
        PlanError: What was asked cannot be done; `faults` has a sentence on each reason, with the cure.
        InternalError: Lethe itself failed.
    """
    return carried_out(locals())
