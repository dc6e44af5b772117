"""What "the same budget" means: an amount in one unit, and a ledger that is asked before each step and charged after."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import TypedDict

import torch


@dataclass
class Account:
    """One kind of work: what it cost so far."""

    flops: float = 0.0
    seconds: float = 0.0
    tokens: int = 0
    calls: int = 0


class AccountRecord(TypedDict):
    """What one kind of work cost, as stored."""

    flops: float
    seconds: float
    tokens: int
    calls: int


class LedgerRecord(TypedDict):
    """A ledger, as ledger.json and a checkpoint have it."""

    meter: str
    allowed: float
    spent: float
    """In the unit of the binding meter."""
    overshoot: float | None
    """Share of the budget that was spent beyond it; None where nothing was allowed."""
    flops: float
    seconds: float
    steps: int
    accounts: dict[str, AccountRecord]
    """By kind of work."""
    tokens: dict[str, int]
    """By class."""


MEASURES = tuple(Account.__dataclass_fields__)
Spending = tuple[dict[str, Account], Counter[str]]
"""Accounts by name, and tokens by class."""


@dataclass
class Ledger:
    """What was allowed and what is spent. Asked before each step (`affords`), charged after.

    `allowed` is in the unit of the binding `meter`; the other meters always run beside it.
    """

    meter: str
    allowed: float
    accounts: dict[str, Account] = field(default_factory=dict)
    classes: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    end: float = 1.0
    """Fraction of the budget that the stage under way may go to."""
    _inner: list[float] = field(default_factory=list, repr=False)
    """Seconds of the charges made inside each charge under way, the innermost last."""
    _merged: Spending | None = field(default=None, repr=False)
    """What all ranks of the run had spent when their ledgers were last merged."""

    def _total(self, what: str) -> float:
        return sum(getattr(account, what) for account in self.accounts.values())

    @property
    def spent(self) -> float:
        """In the binding meter's unit."""
        return self.steps if self.meter == "steps" else self._total(self.meter)

    @property
    def fraction(self) -> float:
        """Share of the budget spent: the learning-rate schedule's only clock."""
        return self.spent / self.allowed if self.allowed else 1.0

    def affords(self, flops: float, tokens: int) -> bool:
        """Return whether one more optimizer step of this price may begin. Half a per mille of rounding is forgiven."""
        # A method cannot be asked how long its next step takes, so seconds are foretold from the
        # mean pace so far.
        cost = {"flops": flops, "tokens": tokens, "steps": 1, "seconds": flops * self.pace}[self.meter]
        return self.allowed > 0 and self.spent + cost <= self.end * self.allowed * 1.0005

    def affords_again(self, account: str) -> bool:
        """Return whether as much may be spent once more as this account's mean call has cost."""
        # A work that was not done yet has no price, so it may be tried once; evaluations cost no
        # optimizer step.
        entry = self.accounts.get(account)
        if entry is None or not entry.calls or self.meter == "steps":
            return True
        return self.spent + getattr(entry, self.meter) / entry.calls <= self.end * self.allowed * 1.0005

    def charge_again(self, account: str, times: int) -> None:
        """Charge an account's mean call so many times more, for work that will be done once the budget is spent."""
        entry = self.accounts[account]
        share = 1 + times / entry.calls
        self.classes[account] = round(self.classes[account] * share)
        self.accounts[account] = Account(
            entry.flops * share, entry.seconds * share, round(entry.tokens * share), entry.calls + times
        )

    @property
    def pace(self) -> float:
        """Seconds a FLOP so far, over everything charged; 0 before the first charge."""
        flops = self._total("flops")
        return self._total("seconds") / flops if flops else 0.0

    @contextmanager
    def charge(self, account: str, flops: float, tokens: Counter[str], device: torch.device) -> Iterator[Account]:
        """Bill what runs inside; a part that raises is billed too. Tokens are real ones, by class.

        Yields the account: what is known only afterwards is added to it inside. Seconds of a charge made inside another one
        (the teacher's within a training step's) count once, in the inner account.
        """
        entry = self.accounts.setdefault(account, Account())
        self._inner.append(0.0)
        begin = clock(device)
        try:
            yield entry
        finally:
            seconds = clock(device) - begin

            # Time is counted once: what a charge inside this one took is taken off here.
            inner = self._inner.pop()
            if self._inner:
                self._inner[-1] += seconds
            entry.flops += flops
            entry.seconds += seconds - inner
            entry.tokens += sum(tokens.values())
            entry.calls += 1
            self.classes.update(tokens)

    def fresh(self) -> Spending:
        """Return what was charged here since the ledgers of the ranks were last merged."""
        # The difference to the last merge: merging accounts whole would count everything again at
        # each merge.
        before, classes_before = self._merged or ({}, Counter())
        accounts = {}
        for name, now in self.accounts.items():
            then = before.get(name, Account())
            accounts[name] = Account(*(getattr(now, part) - getattr(then, part) for part in MEASURES))
        classes = Counter({kind: count - classes_before[kind] for kind, count in self.classes.items()})
        return accounts, classes

    def merge(self, spent: Sequence[Spending]) -> None:
        """Replace what this rank charged since the last merge by what all ranks charged since then: each charge counts once."""
        accounts: dict[str, Account] = {}
        classes: Counter[str] = Counter()
        if self._merged:
            accounts, classes = deepcopy(self._merged)

        # What other ranks charged is added, so all ranks hold the same ledger and decide alike what
        # they can afford.
        for charged, tokens in spent:
            for name, account in charged.items():
                total = accounts.setdefault(name, Account())
                for part in MEASURES:
                    setattr(total, part, getattr(total, part) + getattr(account, part))
            classes.update(tokens)
        self.accounts = accounts
        self.classes = classes
        self._merged = (deepcopy(accounts), classes.copy())

    def record(self) -> LedgerRecord:
        """Return it as stored in ledger.json."""
        return {
            "meter": self.meter,
            "allowed": self.allowed,
            "spent": self.spent,
            "overshoot": self.spent / self.allowed - 1 if self.allowed else None,
            "flops": self._total("flops"),
            "seconds": self._total("seconds"),
            "steps": self.steps,
            "accounts": {name: AccountRecord(**asdict(account)) for name, account in self.accounts.items()},
            "tokens": dict(self.classes),
        }

    def restore(self, record: LedgerRecord) -> None:
        """Restore from a `record`, so that a resumed run has spent what it had spent before."""
        self.accounts = {name: Account(**account) for name, account in record["accounts"].items()}
        self.classes = Counter(record["tokens"])

        # What was restored is known to every rank already, and must not be summed over ranks again.
        self._merged = (deepcopy(self.accounts), self.classes.copy())
        self.steps = record["steps"]


def clock(device: torch.device) -> float:
    """Return seconds, after everything queued on the device has ended."""
    # A GPU works behind the host's back; without this its work would be billed to whoever waits
    # next.
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
