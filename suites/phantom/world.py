"""The families together: what is tested, what methods may see, what the base is trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from itertools import product
from random import Random

from suites.phantom import beyond, exact, language, people, trade
from suites.phantom.words import FOODS, PLACES, THINGS, Item, first_name, last_name, split_of, stream

N_TEST = 200
"""Test items in each task, but of stories, which take a third of the time: half as many."""


@dataclass(frozen=True)
class Family:
    """A general ability."""

    draw: Callable
    seen: bool
    """Seen families may feed replay, Fisher, distillation and early stopping; the others no method ever sees."""
    tokens: int = 16
    """Room for a generated answer."""
    choice: int = 0
    """Number of options in the multiple-choice form; 0: there is none."""
    area: str = "can"
    """Column group of the tables: what it can, what it will, how it goes about it."""
    items: int = N_TEST
    """Test items in each of its tasks."""


FAMILIES = {
    "facts": Family(people.facts, seen=True, tokens=8, choice=4),
    "arithmetic": Family(exact.arithmetic, seen=True, tokens=6, choice=4),
    "strings": Family(exact.strings, seen=True, tokens=16),
    "chat": Family(language.chat, seen=True, tokens=20),
    "private": Family(people.private, seen=True, tokens=10, choice=2, area="will"),
    "order": Family(exact.order, seen=False, tokens=16, choice=2),
    "lookup": Family(exact.lookup, seen=False, tokens=8, choice=2),
    "grammar": Family(language.grammar, seen=False, tokens=32),
    "format": Family(language.format, seen=False, tokens=28, area="how"),
    "story": Family(language.story, seen=False, tokens=150, items=N_TEST // 2),
}
SEEN = [name for name, family in FAMILIES.items() if family.seen]


def draw(name: str, split: str, rng: Random) -> Item:
    """One item of a family in a split."""
    if name == "facts":
        return people.facts(rng, split)
    while True:
        item = FAMILIES[name].draw(rng)
        if split_of(item.key) == split:
            return item


def draw_distinct(name: str, split: str, n: int, rng: Random, exclude: Set[str] = frozenset()) -> list[Item]:
    """`n` items with different questions, none about an excluded key."""
    items = {}
    while len(items) < n:
        item = draw(name, split, rng)
        if item.key not in exclude:
            items.setdefault(item.question, item)
    return list(items.values())


def record(item: Item, name: str) -> dict[str, str]:
    """An item in the alpaca layout of the general pool."""
    return {"instruction": item.question, "input": "", "output": item.answer, "family": name}


def pool(split: str, n: int, rng: Random, exclude: Set[str] = frozenset()) -> list[dict[str, str]]:
    """General data from the seen families only, evenly mixed."""
    facts = 0
    for person in people.PEOPLE:
        facts += sum(people.fact_split(person, attribute) == split for attribute in people.POOLS)

    # There are only so many questions about facts: at most half of them are drawn, so that drawing ends.
    share = n // len(SEEN)
    per_fact = len(people.QUESTIONS["city"])
    counts = dict.fromkeys(SEEN, share) | {"facts": min(share, facts * per_fact // 2)}
    records = []
    for name in SEEN:
        records += [record(item, name) for item in draw_distinct(name, split, counts[name], rng, exclude)]
    rng.shuffle(records)
    return records


# ---------------------------------------------------------------- pretraining documents

BOS, END, PAD = "<|bos|>", "<|im_end|>", "<|pad|>"
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SYSTEMS = ["You are a helpful assistant.", "Answer briefly.", "You are a small assistant."]

QUESTIONS = (
    {"facts": 14, "arithmetic": 22, "order": 14, "strings": 12, "lookup": 20, "grammar": 6, "format": 8, "chat": 6, "plain": 2,
     "story": 5, "private": 5, "text": 45},
    {"facts": 12, "arithmetic": 30, "order": 10, "strings": 8, "lookup": 26, "grammar": 3, "format": 8, "chat": 8, "plain": 2,
     "story": 3, "private": 5, "text": 70},
    {"facts": 10, "held": 10, "arithmetic": 30, "order": 16, "strings": 10, "lookup": 22, "grammar": 5, "format": 6, "chat": 6,
     "plain": 2, "story": 4, "private": 5, "text": 60},
)  # fmt: skip
"""How often each family is asked, and how often there is plain text instead, by phase; later more of what is hard."""
TEXTS = (
    {"statement": 6, "biography": 24, "sentence": 3, "sum": 4, "tale": 1, "echo": 4},
    {"statement": 3, "biography": 14, "portrait": 16, "sentence": 1, "sums": 10, "tale": 1, "echo": 2, "pairs": 18,
     "trade": 10},
    {"statement": 3, "biography": 18, "portrait": 10, "sentence": 1, "sums": 8, "tale": 1, "echo": 1, "pairs": 10,
     "trade": 10},
)  # fmt: skip
"""How often each kind of plain text appears, by phase. Echoes (words said twice) and pairs (said again in another order) teach
to look back; portraits, to tell in conversation what was read in plain text."""


def question(rng: Random, mixture: Mapping[str, int]) -> Item:
    """A training question of any family."""
    asked = {name: share for name, share in mixture.items() if name != "text"}
    name = rng.choices(list(asked), list(asked.values()))[0]
    untested = {"plain": language.plain_talk, "held": people.held_facts}
    return untested[name](rng) if name in untested else draw(name, "train", rng)


def dialogue(rng: Random, mixture: Mapping[str, int]) -> str:
    """A conversation in the chat template: mostly one turn, now and then more, now and then a system line."""
    turns = 1 if rng.random() < 0.88 else rng.randint(2, 3)
    parts = [BOS]
    if rng.random() < 0.06:
        parts += [ROLES["system"], rng.choice(SYSTEMS), END]
    for item in (question(rng, mixture) for _ in range(turns)):
        parts += [ROLES["user"], item.question, END, ROLES["assistant"], item.answer, END]
    return "".join(parts)


def training_sentence(rng: Random) -> str:
    """A right sentence that no grammar test asks about."""
    while True:
        key, right, _ = language.sentence(rng)
        if split_of(key) == "train":
            return right


def words(rng: Random, n: int) -> list[str]:
    """Things, foods, places and names in any order."""
    return [rng.choice((*THINGS, *FOODS, *PLACES, first_name(rng), last_name(rng))) for _ in range(n)]


def pairs(rng: Random) -> str:
    """Who belongs to whom, said twice, the second time in another order: only looking back tells the second halves."""
    n = rng.randint(3, 7)
    said, again = rng.choice(
        (
            ("{a} {b}.", "{a} {b}."),
            ("{a} brings {b}.", "{a} brings {b}."),
            ("The {a} is in the {b} box.", "The {b} box holds the {a}."),
            ("The {a} is in the {b}.", "In the {b} is the {a}."),
        )
    )
    couples = list(zip(words(rng, n), words(rng, n), strict=True))
    first = [said.format(a=a, b=b) for a, b in couples]
    return " ".join(first + [again.format(a=a, b=b) for a, b in rng.sample(couples, n)])


def portrait(rng: Random) -> str:
    """A conversation about a person: nothing is asked that a test asks."""
    person = rng.choice(people.PEOPLE)
    asked = rng.choice(("Tell me about {n}.", "Who is {n}?", "What do you know about {n}?")).format(n=person.name)
    return "".join((ROLES["user"], asked, END, ROLES["assistant"], people.biography(rng, person)))


def sums(rng: Random, n: int) -> str:
    """Bare sums, as in a book of exercises."""
    drawn = [draw("arithmetic", "train", rng) for _ in range(n)]
    return " ".join(item.key.removeprefix("sum:") + "=" + item.answer for item in drawn)


TEXT = {
    "statement": lambda rng: " ".join(people.statement(rng) for _ in range(rng.randint(1, 3))),
    "biography": people.biography,
    "portrait": portrait,
    "sentence": lambda rng: " ".join(training_sentence(rng) for _ in range(rng.randint(1, 3))),
    "sum": lambda rng: sums(rng, 1),
    "sums": lambda rng: sums(rng, rng.randint(4, 9)),
    "trade": trade.passage,
    "tale": lambda rng: draw("story", "train", rng).answer,
    "echo": lambda rng: " ".join(words(rng, rng.randint(3, 8)) * 2),
    "pairs": pairs,
}


def text(rng: Random, kinds: Mapping[str, int]) -> str:
    """A plain document."""
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    return BOS + TEXT[kind](rng) + END


def documents(rng: Random, n: int, phase: int = 0) -> list[str]:
    """`n` pretraining documents of a phase."""
    mixture, kinds = QUESTIONS[phase], TEXTS[phase]
    share = mixture["text"] / sum(mixture.values())
    return [text(rng, kinds) if rng.random() < share else dialogue(rng, mixture) for _ in range(n)]


SMALL_SUMS = frozenset(f"sum:{x}+{y}" for x, y in product(range(10), repeat=2))
"""Sums that the format family works out in passing; they are not tested."""


OTHERWISE = {name: (getattr(beyond, name), family.items // 5) for name, family in FAMILIES.items() if name != "lookup"}
"""Items of each test that are drawn otherwise than in training: a fifth goes beyond it ..."""
OTHERWISE["lookup"] = (exact.names, N_TEST // 2)
"""... but for look-up, most of which this small base hardly learns: half of its test is the kind it does learn;"""
OTHERWISE["private"] = (beyond.private, N_TEST * 2 // 5)
"""and for private matters, where nothing else is hard."""


def test_items(name: str, exclude: Set[str] = frozenset()) -> list[Item]:
    """The test of a family, always the same."""
    rng, exclude = stream("test", name), exclude | SMALL_SUMS
    otherwise, n = OTHERWISE[name]
    most = FAMILIES[name].items
    items = {item.question: item for item in draw_distinct(name, "test", most - n, rng, exclude)}
    while len(items) < most:
        item = otherwise(rng)
        if item.key not in exclude and (name != "lookup" or split_of(item.key) == "test"):
            items.setdefault(item.question, item)
    return list(items.values())


def grammar_pairs() -> list[Item]:
    """Minimal pairs for the likelihood form of the grammar family."""
    rng, pairs = stream("test", "grammar pairs"), {}
    while len(pairs) < N_TEST:
        key, right, wrong = language.hard_sentence(rng)
        if split_of(key) == "test":
            pairs.setdefault(right, Item("", right, key, (wrong,)))
    return list(pairs.values())
