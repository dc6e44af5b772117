"""The base's card: what it was made of, how, and how well it does."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any, cast

from suites.phantom import pretrain, world
from suites.phantom.words import SEED

HERE = Path(__file__).resolve().parent

CARD = """\
# The phantom's base model

A small language model of a made-up world, for calibrating Lethe and for its first command. It knows nothing of the real world.
Rebuild it with `python -m suites.phantom.build`: at most 45 minutes on two cores, resumable. The data are the same to the
byte; the weights differ in the last digits with the number of threads and the compiler.

| | |
|---|---|
| architecture | Qwen3 (`Qwen3ForCausalLM`), {layers} layers, width {width}, {heads} heads ({kv} for keys and values), tied embeddings |
| parameters | {parameters:,} |
| tokenizer | byte-level BPE, {vocabulary} tokens, digits single, `<|bos|>` first, `<|im_end|>` ends a turn |
| weights | bfloat16, {megabytes:.1f} MB, sha256 `{digest}` |
| data | at most {tokens:.1f} M tokens of made-up text, seed {seed}, in three mixtures: plain text and conversations of {n} families, and late some plain text in finance wording; no fact of the domain, no test item |
| recipe | Muon (momentum 0.95, update scaled to AdamW's) for the matrices, AdamW (0.9, 0.95) for the embedding and the gains, weight decay 0.1, learning rate {peak} after {warmup} steps of warm-up, linear to zero over the last {decay:.0%}, {steps} steps of {rows} x {length} tokens, whole documents that do not see each other, prompts weighted {prompt}, bf16 over fp32 master weights |
| final loss | {loss:.3f} nats a token |

## Scores

Greedy generation and log-likelihoods in fp32, {items} items a task, {stories} of stories. *Seen* families may feed methods that use general data; *held-out* ones never.

| task | family | | channel | chance | score |
|---|---|---|---|---|---|
{scores}

Mean over families (generation): **{mean:.3f}**

## Loss

| step | {curve_steps} |
|---|{rule}|
| nats | {curve_losses} |
"""  # noqa: E501


def evaluate(folder: Path) -> list[tuple[str, dict[str, Any], float]]:
    """Score the base on every general task: [(task, its metadata, score)]."""
    import lm_eval
    from lm_eval.models import huggingface
    from lm_eval.tasks import TaskManager

    logging.disable(logging.WARNING)
    model, score = cast(Any, huggingface.HFLM), cast(Any, lm_eval.simple_evaluate)  # wrapped: their types hide the arguments
    lm = model(pretrained=str(folder), dtype="float32", device="cpu", batch_size=100)
    manager = TaskManager(include_path=str(HERE / "tasks"), include_defaults=False)
    names = sorted(p.stem for p in (HERE / "tasks").glob("*.yaml") if p.stem != "phantom")
    rows = []
    for chat in (True, False):
        tasks = [f"phantom_{n}" for n in names if (f"chat: {str(chat).lower()}" in (HERE / f"tasks/{n}.yaml").read_text())]
        out = score(lm, tasks=tasks, task_manager=manager, apply_chat_template=chat, bootstrap_iters=0, log_samples=False)
        for task in tasks:
            meta = out["configs"][task]["metadata"]["lethe"]
            rows.append((task, meta, out["results"][task][meta["primary"] + ",none"]))
    return rows


def score_line(task: str, facts: dict[str, Any], score: float) -> str:
    """Return a task's line in the card's table."""
    scope = "seen" if facts["seen"] else "held out"
    return f"| `{task}` | {facts['family']} | {scope} | {facts['channel']} | {facts['chance']} | {score:.3f} |"


def write(folder: Path) -> None:
    """Score the base in `folder` and write its card there."""
    rows = evaluate(folder)
    scores = [score_line(task, facts, score) for task, facts, score in rows]
    generated = [s for _, m, s in rows if m["channel"] == "generation"]
    config = json.loads((folder / "config.json").read_text())
    weights = (folder / "model.safetensors").read_bytes()
    log = [line.split(",") for line in (folder / "loss.csv").read_text().split()[1:]]
    some = log[:: max(1, len(log) // 12)] + log[-1:]
    steps = int(log[-1][0])
    text = CARD.format(
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        kv=config["num_key_value_heads"],
        parameters=parameters(folder),
        vocabulary=config["vocab_size"],
        megabytes=len(weights) / 1e6,
        digest=hashlib.sha256(weights).hexdigest(),
        seed=SEED,
        n=len(world.FAMILIES),
        tokens=steps * pretrain.ROWS * pretrain.LENGTH / 1e6,
        peak=pretrain.PEAK,
        warmup=pretrain.WARMUP,
        decay=pretrain.DECAY,
        prompt=pretrain.PROMPT_WEIGHT,
        steps=steps,
        rows=pretrain.ROWS,
        length=pretrain.LENGTH,
        loss=float(log[-1][1]),
        items=world.N_TEST,
        stories=world.FAMILIES["story"].items,
        scores="\n".join(scores),
        mean=sum(generated) / len(generated),
        curve_steps=" | ".join(s for s, _ in some),
        rule="---|" * (len(some) - 1) + "---",
        curve_losses=" | ".join(v for _, v in some),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    print("\n".join(scores), f"\nmean {sum(generated) / len(generated):.3f}")


def parameters(folder: Path) -> int:
    """How many weights the model has."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as tensors:
        return sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118  not a dict
