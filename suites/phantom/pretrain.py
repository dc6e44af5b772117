"""The training of the base: bf16 compute over fp32 master weights, resumable, with a log of the loss."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from suites.phantom import model, world
from suites.phantom.words import stream

LENGTH, ROWS = 256, 8
"""A step sees `ROWS` rows of `LENGTH` tokens: documents one after another, each between its BOS and end token."""
PEAK, WARMUP, DECAY = 2e-3, 200, 0.3
"""Learning rate: linear over `WARMUP` steps to `PEAK`, level, then linear to zero over the last `DECAY` of the steps."""
STEPS = 4800
PROMPT_WEIGHT = 0.2
"""Weight of what users and systems say: mostly chance, so it teaches little and drowns the answers."""
SHARD = 8000
"""Documents made at a time."""
PHASES = (26, 37)
"""The shards at which the second and the third mixture begin."""


@dataclass
class Progress:
    """Where the training stands."""

    step: int
    steps: int
    loss: float
    seconds: float

    def __str__(self):
        left = self.seconds / max(1, self.step) * (self.steps - self.step)
        return f"step {self.step:5d}/{self.steps}  loss {self.loss:.3f}  {left / 60:5.1f} min left"


def batches(tok, seed, start=0):
    """Batches of tokens and their weights, `(2, ROWS, LENGTH + 1)`, without end, from step `start` on."""
    step, shard = 0, 0
    while True:
        docs = world.documents(stream("corpus", seed, shard), SHARD, phase=sum(shard >= p for p in PHASES))
        flat = [t for ids in tok(docs, add_special_tokens=False)["input_ids"] for t in ids]
        n = len(flat) // (LENGTH + 1) // ROWS
        both = torch.tensor([flat, weights(tok, flat)], dtype=torch.float64)[:, : n * ROWS * (LENGTH + 1)]
        for batch in both.view(2, n, ROWS, LENGTH + 1).transpose(0, 1):
            if step >= start:
                yield batch
            step += 1
        shard += 1


def weights(tok, flat):
    """One weight a token: `PROMPT_WEIGHT` within a user's or a system's turn, else 1."""
    opening = {tok.convert_tokens_to_ids(world.ROLES[role]) for role in ("user", "system")}
    out, inside = [], False
    for t in flat:
        out.append(PROMPT_WEIGHT if inside else 1.0)
        inside = t in opening or (inside and t != tok.eos_token_id)
    return out


def rate(step, steps):
    """The learning rate of a step."""
    return PEAK * min(1.0, (step + 1) / WARMUP, (steps - step) / (DECAY * steps))


def optimizer(master):
    """AdamW; gains and norms do not decay."""
    groups = [
        {"params": [p for p in master if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in master if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.95), fused=True)


def restore(checkpoint, master, opt):
    """Load a checkpoint where there is one; return the step to go on from and the log so far."""
    if not checkpoint.exists():
        return 0, []
    state = torch.load(checkpoint, weights_only=True)
    with torch.no_grad():
        for p, saved in zip(master, state["master"], strict=False):
            p.copy_(saved)
    opt.load_state_dict(state["optimizer"])
    return state["step"], json.loads(state["log"])


@torch.no_grad()
def publish(master, net):
    """Copy the fp32 masters into the bf16 model."""
    for parameter, value in zip(net.parameters(), master, strict=True):
        parameter.copy_(value)


def keep(checkpoint, step, master, opt, log):
    """Write a checkpoint, whole or not at all."""
    part = checkpoint.with_suffix(".part")
    torch.save({"step": step, "master": list(master), "optimizer": opt.state_dict(), "log": json.dumps(log)}, part)
    part.replace(checkpoint)


def train(tok, work, seed=0, steps=STEPS, compiled=True, report=print):
    """Train a base from nothing, or from where the last call was cut off; return the model and its loss log."""
    torch.manual_seed(seed)
    net = model.model(tok)
    master = [p.detach().clone().float() for p in net.parameters()]
    net = net.bfloat16()
    run = torch.compile(net) if compiled else net
    opt = optimizer(master)
    checkpoint = Path(work) / f"base-{seed}.pt"
    first, log = restore(checkpoint, master, opt)
    source, began, total = batches(tok, seed, first), time.time(), 0.0
    for step in range(first, steps):
        publish(master, net)
        total += _step(run, net, master, opt, next(source), rate(step, steps))
        if (step + 1) % 50 == 0:
            log.append([step + 1, round(total / 50, 4)])
            report(Progress(step + 1 - first, steps - first, total / 50, time.time() - began))
            total = 0.0
        if (step + 1) % 400 == 0 or step + 1 == steps:
            keep(checkpoint, step + 1, master, opt, log)
    publish(master, net)
    return net, log


def _step(run, net, master, opt, batch, lr):
    """One update; returns the loss."""
    tokens, weight = batch[0].long(), batch[1, :, 1:].flatten().float()
    logits = run(input_ids=tokens[:, :-1]).logits
    nll = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none")
    loss = (nll * weight).sum() / weight.sum()
    loss.backward()
    for p, q in zip(master, net.parameters(), strict=False):
        p.grad = q.grad.float()
    net.zero_grad(set_to_none=True)
    torch.nn.utils.clip_grad_norm_(master, 1.0)
    for group in opt.param_groups:
        group["lr"] = lr
    opt.step()
    return loss.item()
