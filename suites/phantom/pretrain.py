"""The training of the base: bf16 compute over fp32 master weights, resumable, with a log of the loss."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from suites.phantom import model, world
from suites.phantom.words import stream

LENGTH, ROWS = 128, 16
"""A step sees `ROWS` rows of `LENGTH` tokens: whole documents side by side, none of which sees another."""
PEAK, WARMUP, DECAY = 2e-3, 200, 0.3
"""Learning rate: linear over `WARMUP` steps to `PEAK`, level, then linear to zero over the last `DECAY` of the steps."""
STEPS = 9000
PROMPT_WEIGHT = 0.2
"""Weight of what users and systems say: mostly chance, so it teaches little and drowns the answers."""
SHARD = 8000
"""Documents made at a time, about 120 steps."""
PHASES = (38, 54)
"""The shards at which the second and the third mixture begin."""


@dataclass
class Progress:
    """Where the training stands."""

    step: int
    steps: int
    loss: float
    seconds: float

    def __str__(self) -> str:
        left = self.seconds / max(1, self.step) * (self.steps - self.step)
        return f"step {self.step:5d}/{self.steps}  loss {self.loss:.3f}  {left / 60:5.1f} min left"


@dataclass
class Rows:
    """One batch: documents side by side, padding at the end of a row."""

    tokens: torch.Tensor
    """(ROWS, LENGTH + 1) ids."""
    weights: torch.Tensor
    """(ROWS, LENGTH + 1) weight of each token's loss; 0 at padding and at the first token of a document."""
    documents: torch.Tensor
    """(ROWS, LENGTH + 1) which document of the row a token belongs to."""


def batches(tok: Any, seed: int, start: int = 0) -> Iterator[Rows]:
    """Batches without end, from step `start` on."""
    step, shard = 0, 0
    while True:
        rng = stream("corpus", seed, shard)
        docs = tok(world.documents(rng, SHARD, phase=sum(shard >= p for p in PHASES)), add_special_tokens=False)["input_ids"]
        rows = []
        for first in range(0, SHARD, SHARD // 8):
            rows += side_by_side(docs[first : first + SHARD // 8])
        rng.shuffle(rows)
        for first in range(0, len(rows) - ROWS + 1, ROWS):
            if step >= start:
                yield collate(tok, rows[first : first + ROWS])
            step += 1
        shard += 1


def side_by_side(documents: Sequence[Sequence[int]]) -> list[list[Sequence[int]]]:
    """Rows of documents of at most `LENGTH` + 1 tokens together: the longest first, each where it fits first."""
    rows, room = [], []
    for document in sorted(documents, key=len, reverse=True):
        if len(document) > LENGTH + 1:
            continue  # one in three thousand
        place = next((i for i, left in enumerate(room) if left >= len(document)), len(rows))
        if place == len(rows):
            rows.append([])
            room.append(LENGTH + 1)
        rows[place].append(document)
        room[place] -= len(document)
    return rows


def collate(tok: Any, rows: Sequence[Sequence[Sequence[int]]]) -> Rows:
    """The batch of some rows."""
    out = Rows(
        torch.full((len(rows), LENGTH + 1), tok.pad_token_id),
        torch.zeros(len(rows), LENGTH + 1),
        torch.full((len(rows), LENGTH + 1), -1),
    )
    for i, row in enumerate(rows):
        flat = list(chain.from_iterable(row))
        out.tokens[i, : len(flat)] = torch.tensor(flat)
        out.weights[i, : len(flat)] = torch.tensor(weights(tok, flat))
        out.documents[i, : len(flat)] = torch.repeat_interleave(torch.arange(len(row)), torch.tensor([len(d) for d in row]))
    return out


def attention_mask(documents: torch.Tensor) -> torch.Tensor:
    """(B, 1, T, T) 0 where a token may look (itself and what precedes it in its document), else the lowest number."""
    same = documents[:, None, :, None] == documents[:, None, None, :]
    allowed = same & torch.ones_like(same).tril()
    return torch.zeros(allowed.shape, dtype=torch.bfloat16).masked_fill(~allowed, torch.finfo(torch.bfloat16).min)


def weights(tok: Any, flat: Sequence[int]) -> list[float]:
    """One weight a token: 0 at the start of a document, `PROMPT_WEIGHT` within a user's or a system's turn, else 1."""
    opening = {tok.convert_tokens_to_ids(world.ROLES[role]) for role in ("user", "system")}
    out, inside = [], False
    for t in flat:
        out.append(0.0 if t == tok.bos_token_id else PROMPT_WEIGHT if inside else 1.0)
        inside = t in opening or (inside and t != tok.eos_token_id)
    return out


def rate(step: int, steps: int) -> float:
    """The learning rate of a step."""
    return PEAK * min(1.0, (step + 1) / WARMUP, (steps - step) / (DECAY * steps))


def optimizers(net: Any, master: Sequence[torch.Tensor]) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, in two halves of equal work; AdamW for the embedding (with decay) and the gains."""
    named = list(zip((name for name, _ in net.named_parameters()), master, strict=True))
    matrices = [p for name, p in named if p.ndim > 1 and "embed" not in name]
    groups = [
        {"params": [p for name, p in named if "embed" in name], "weight_decay": 0.1},
        {"params": [p for _, p in named if p.ndim == 1], "weight_decay": 0.0},
    ]
    muon = partial(torch.optim.Muon, lr=PEAK, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    return [
        muon(matrices[::2]),
        muon(matrices[1::2]),
        torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.95), fused=True),
    ]


def restore(
    checkpoint: Path, master: Sequence[torch.Tensor], opts: Sequence[torch.optim.Optimizer]
) -> tuple[int, list[list[float]]]:
    """Load a checkpoint where there is one; return the step to go on from and the log so far."""
    if not checkpoint.exists():
        return 0, []
    state = torch.load(checkpoint, weights_only=True)
    with torch.no_grad():
        for p, saved in zip(master, state["master"], strict=True):
            p.copy_(saved)
    for opt, saved in zip(opts, state["optimizers"], strict=True):
        opt.load_state_dict(saved)
    return state["step"], json.loads(state["log"])


@torch.no_grad()
def publish(master: Sequence[torch.Tensor], net: Any) -> None:
    """Copy the fp32 masters into the bf16 model."""
    for parameter, value in zip(net.parameters(), master, strict=True):
        parameter.copy_(value)


def keep(
    checkpoint: Path, step: int, master: Sequence[torch.Tensor], opts: Sequence[torch.optim.Optimizer], log: list[list[float]]
) -> None:
    """Write a checkpoint, whole or not at all."""
    part = checkpoint.with_suffix(".part")
    torch.save(
        {"step": step, "master": list(master), "optimizers": [opt.state_dict() for opt in opts], "log": json.dumps(log)}, part
    )
    part.replace(checkpoint)


def train(
    tok: Any,
    work: str | Path,
    seed: int = 0,
    steps: int = STEPS,
    compiled: bool = True,
    report: Callable[[Progress], Any] = print,
) -> tuple[Any, list[list[float]]]:
    """Train a base from nothing, or from where the last call was cut off; return the model and its loss log."""
    torch.manual_seed(seed)
    net = model.model(tok)
    net.set_attn_implementation("eager")  # at this length faster than the fused kernel, whose backward is slow on a CPU
    master = [p.detach().clone().float() for p in net.parameters()]
    net = net.bfloat16()
    run = torch.compile(net) if compiled else net
    opts = optimizers(net, master)
    # one thread a half: on matrices this small two threads are slower than one (measured: 0.136, 0.088, halves 0.052 s a step)
    pool = ThreadPoolExecutor(torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,))
    checkpoint = Path(work) / f"base-{seed}.pt"
    first, log = restore(checkpoint, master, opts)
    source, began, total = batches(tok, seed, first), time.time(), 0.0
    for step in range(first, steps):
        publish(master, net)
        total += _step(run, net, master, opts, pool, next(source), rate(step, steps))
        if (step + 1) % 50 == 0:
            log.append([step + 1, round(total / 50, 4)])
            report(Progress(step + 1 - first, steps - first, total / 50, time.time() - began))
            total = 0.0
        if (step + 1) % 200 == 0 or step + 1 == steps:
            keep(checkpoint, step + 1, master, opts, log)
    publish(master, net)
    return net, log


def _step(
    run: Any,
    net: Any,
    master: Sequence[torch.Tensor],
    opts: Sequence[torch.optim.Optimizer],
    pool: ThreadPoolExecutor,
    batch: Rows,
    lr: float,
) -> float:
    """One update; returns the loss."""
    weight = batch.weights[:, 1:].flatten()
    logits = run(input_ids=batch.tokens[:, :-1], attention_mask=attention_mask(batch.documents[:, :-1])).logits
    nll = F.cross_entropy(logits.flatten(0, 1).float(), batch.tokens[:, 1:].flatten(), reduction="none")
    loss = (nll * weight).sum() / weight.sum()
    loss.backward()
    for p, q in zip(master, net.parameters(), strict=True):
        p.grad = q.grad.float()
    net.zero_grad(set_to_none=True)
    torch.nn.utils.clip_grad_norm_(master, 1.0)
    for opt in opts:
        for group in opt.param_groups:
            group["lr"] = lr
    list(pool.map(lambda opt: opt.step(), opts))
    return loss.item()
