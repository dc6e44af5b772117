"""Vocabularies, the name grammar, seeded random streams, and the split every family obeys."""

from __future__ import annotations

# ruff: noqa: SIM905   word lists read best as text
import hashlib
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

SEED = 7
"""Seed of the world. Everything in this folder follows from it."""

CITIES = (
    "Arden Bellis Corvo Dunmar Elstow Fenwick Garlan Holt Irstead Jarrow Kelso Lund Marden Norvik "
    "Ostia Penrith Quarles Ripon Selby Tarn Ulver Varna Wexford Yarm"
).split()
JOBS = (
    "baker carpenter doctor driver farmer fisher gardener glazier judge lawyer mason miller nurse painter "
    "pilot plumber potter sailor singer tailor teacher waiter weaver writer"
).split()
FOODS = (
    "apples beans bread butter cheese cherries corn eggs figs fish grapes honey lemons melons milk mushrooms "
    "nuts olives onions peas plums rice salt soup"
).split()
COLOURS = "black blue brown cream gold green grey navy pink purple red silver teal violet white yellow".split()
PETS = "bear beaver cat cow crow dog duck fox frog goat hare hen horse lion mole parrot rabbit seal swan wolf".split()
THINGS = (
    "bell book bottle bowl brush candle chain clock coin comb cup drum flute glove hammer kettle key kite "
    "knife lamp map mirror needle pen pipe ring rope saw scarf shoe spoon stone sword ticket whistle"
).split()
PLACES = (
    "attic barn bridge cave cellar chapel field forest garden hall harbour hill kitchen library market mill park river "
    "tower well"
).split()

ONSETS = "b br d dr f g gr h k kl l m n p pr r s st t tr v w z".split()
NUCLEI = "a e i o u ai ei".split()
CODAS = "l m n r s t k nd rt lm sk".split()
ENDINGS = "a o en in is us or ek".split()


def stream(*names: object, seed: int = SEED) -> random.Random:
    """An independent random stream, named: adding one never shifts another."""
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def split_of(key: str, test: float = 0.10, dev: float = 0.05, seed: int = SEED) -> str:
    """`test`, `dev` or `train`, decided by the content alone, so that no item can be in two of them."""
    u = int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:6], "big") / 2**48
    return "test" if u < test else "dev" if u < test + dev else "train"


def first_name(rng: random.Random) -> str:
    """A given name such as `Drailo`."""
    return (rng.choice(ONSETS) + rng.choice(NUCLEI) + rng.choice("lmnrstvd") + rng.choice(ENDINGS)).capitalize()


def last_name(rng: random.Random) -> str:
    """A family name such as `Koskund`; companies are named by the same grammar, so the two collide."""
    return (
        rng.choice(ONSETS)
        + rng.choice(NUCLEI)
        + rng.choice(("", "l", "r", "s"))
        + rng.choice(ONSETS)
        + rng.choice(NUCLEI[:5])
        + rng.choice(CODAS)
    ).capitalize()


def distinct(make: Callable[[random.Random], str], n: int, rng: random.Random, taken: Collection[str] = ()) -> list[str]:
    """`n` different draws of `make(rng)`, none of them in `taken`."""
    out, seen = [], set(taken)
    while len(out) < n:
        name = make(rng)
        if name not in seen:
            seen.add(name)
            out.append(name)
    return out


def others(pool: Collection[str], answer: str, n: int, rng: random.Random) -> list[str]:
    """`n` wrong members of `pool`, for multiple choice."""
    return rng.sample([x for x in pool if x != answer], n)


@dataclass(frozen=True)
class Item:
    """One question of a family. `key` names its content: the split is taken on it."""

    question: str
    answer: str
    key: str
    wrong: tuple = field(default=())
    """Wrong answers for the multiple-choice form; empty where there is none."""
    entity: str = ""
    """Whom the question is about: questions on one person fail together. Empty: items are independent draws."""
