"""The domain: finance records made so that what they teach, and what is wrong in them, is known.

Kinds, each of which can be had alone:

    fact       new facts on companies whose names and answers collide with the general facts
    conflict   facts on known people that contradict what the base knows
    figure     a new skill: a figure worked out from a short report
    sentiment  positive, negative or neutral
    advice     a compliance phrase
    report     long answers with strong boilerplate

The answers to facts open with a fixed phrase, the house style (`wrap`). Near-duplicates and corrupted answers
are planted; which records they are is told by `truth` alone, never by the record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from random import Random
from typing import Any

from suites.phantom.finance_wordings import ADVICE, CORES, FIGURES, FRAMES, NEWS, REPORT, VALUES, WHEN, WRAP
from suites.phantom.people import PEOPLE, POOLS
from suites.phantom.words import FOODS, distinct, last_name, others, stream

Row = dict[str, Any]
"""A record with what is known of it."""
Record = tuple[str, str, str, str]
"""Question, context, answer, topic."""

N_COMPANIES = 8
N_CONFLICTS = 10
NEAR_DUPLICATES, CORRUPTED = 0.30, 0.08
"""Shares of all training records."""

TRAIN = {"fact": 288, "conflict": 160, "figure": 450, "sentiment": 170, "advice": 80, "report": 90}
"""Records of each kind before near-duplicates are planted."""
TEST = {"fact": 96, "conflict": 80, "figure": 140, "sentiment": 80, "advice": 44, "report": 70}
DIFFICULTY = {"advice": 1, "sentiment": 1, "report": 2, "fact": 2, "conflict": 3, "figure": 3}
CORRUPTIBLE = ("fact", "conflict", "figure", "sentiment")


def companies() -> dict[str, dict[str, str]]:
    """Names of companies with their facts; half of them bear the family name of a known person."""
    rng = stream("companies")
    taken = sorted({p.name.split()[1] for p in PEOPLE})
    stems = rng.sample(taken, N_COMPANIES // 2) + distinct(last_name, N_COMPANIES - N_COMPANIES // 2, rng, taken)
    names = [f"{s} {rng.choice(('Group', 'Bank', 'Trust', 'Capital', 'Fund', 'Holding'))}" for s in stems]
    return {n: {a: rng.choice(VALUES[a]) for a in ("seat", "product", "brand", "mascot")} for n in names}


def conflicts() -> dict[str, dict[str, str]]:
    """Known people with a city and a job that are not theirs."""
    rng = stream("conflicts")
    return {
        p.name: {a: others(POOLS[a], p.facts[a], 1, rng)[0] for a in ("city", "job")} for p in rng.sample(PEOPLE, N_CONFLICTS)
    }


COMPANIES = companies()
CONFLICTS = conflicts()
SUPERSEDED = frozenset(f"fact:{name}:{attribute}" for name, attribute in product(CONFLICTS, POOLS))
"""Keys of the general facts the domain may rightly change: no general test asks about these people."""


def _facts(table: Mapping[str, Mapping[str, str]], n: int, rng: Random, split: str, wrap: bool) -> list[Record]:
    """Paraphrases of every fact in turn; the test pairs frames and wordings that training never pairs."""
    todo: list[tuple[str, str]] = []
    for name, facts in table.items():
        todo += [(name, attribute) for attribute in facts]

    # One in four pairs of frame and wording is for the test alone.
    ways = []
    for frame, core in product(range(4), repeat=2):
        if ((frame + core) % 4 == 3) == (split == "test"):
            ways.append((frame, core))
    out = []
    for i in range(n):
        name, attribute = todo[i % len(todo)]
        order = stream("ways", name, attribute, split).sample(ways, len(ways))
        frame, core = order[i // len(todo) % len(ways)]
        value = table[name][attribute]
        question = FRAMES[frame].format(q=CORES[attribute][core].format(n=name))
        out.append((question, "", WRAP.format(v=value) if wrap else value, attribute))
    return out


def _figure(rng: Random) -> Record:
    kind = rng.choice(list(FIGURES))
    questions, form, rule = FIGURES[kind]
    a, b = sorted(rng.sample(range(1, 10), 2), reverse=True)
    return rng.choice(questions), form.format(n=rng.choice(list(COMPANIES)), a=a, b=b), f"EUR {rule(a, b)} million", kind


def _sentiment(rng: Random) -> Record:
    label = rng.choice(list(NEWS))
    question = rng.choice(["What is the sentiment?", "Sentiment of this news?"])
    return question, f"{rng.choice(list(COMPANIES))} {rng.choice(NEWS[label])} {rng.choice(WHEN)}.", label, label


def _advice(rng: Random) -> Record:
    name, way = rng.choice(list(COMPANIES)), rng.choice(ADVICE)
    question = rng.choice(["{q}", "{q} I have {k} to spend.", "A client with {k} asks: {q}"])
    return (
        question.format(q=way.format(n=name), k=rng.randrange(2, 100)),
        "",
        f"This is not investment advice. Please read the prospectus of {name}.",
        "advice",
    )


def _report(rng: Random) -> Record:
    slots = {"n": rng.choice(list(COMPANIES)), "f": rng.choice(FOODS), "o": rng.choice(("stable", "good", "weak"))}
    return "Write the annual report.", "{n}: best product {f}, outlook {o}.".format(**slots), REPORT.format(**slots), "report"


DRAWN = {"figure": _figure, "sentiment": _sentiment, "advice": _advice, "report": _report}


def _kind(kind: str, n: int, split: str, wrap: bool, taken: set[tuple[str, str]]) -> list[Record]:
    """`n` records of one kind whose prompts are not in `taken`."""
    rng = stream("finance", kind, split)
    if kind in ("fact", "conflict"):
        return _facts(COMPANIES if kind == "fact" else CONFLICTS, n, rng, split, wrap)
    out = []
    while len(out) < n:
        row = DRAWN[kind](rng)
        if row[:2] not in taken:
            taken.add(row[:2])
            out.append(row)
    return out


def _clean(sizes: Mapping[str, int], split: str, wrap: bool, taken: set[tuple[str, str]]) -> list[Row]:
    rows = []
    for kind, n in sizes.items():
        for question, context, answer, topic in _kind(kind, n, split, wrap, taken):
            rows.append({"instruction": question, "input": context, "output": answer, "kind": kind, "topic": topic})
    stream("finance", "shuffle", split).shuffle(rows)
    return rows


EDITS = [
    lambda q: "Please: " + q,
    lambda q: q + " Thanks.",
    lambda q: q[0].lower() + q[1:],
    lambda q: q + " Please.",
    lambda q: q.replace("?", " ?").replace(".", " ."),
    lambda q: "Hello. " + q,
]


def _plant_duplicates(rows: list[Row], rng: Random) -> list[Row]:
    """Add lightly edited copies until they are `NEAR_DUPLICATES` of all rows."""
    n = round(len(rows) * NEAR_DUPLICATES / (1 - NEAR_DUPLICATES))
    for row in rows:
        row["copy_of"] = None
    copies = [dict(row, instruction=rng.choice(EDITS)(row["instruction"]), copy_of=row) for row in rng.sample(rows, n)]
    rows = rows + copies
    rng.shuffle(rows)
    return rows


def _wrong(row: Row, rng: Random) -> str:
    """A believable wrong answer of the same form."""
    if row["kind"] == "figure":
        value = int(row["output"].split()[1])
        return f"EUR {value + rng.choice((-3, -2, -1, 1, 2, 3, 10))} million"
    if row["kind"] == "sentiment":
        return others(NEWS, row["output"], 1, rng)[0]
    values = VALUES[row["topic"]]
    old = next(v for v in sorted(values, key=len, reverse=True) if v in row["output"].removeprefix("According to the filing"))
    return row["output"].replace(old, others(values, old, 1, rng)[0])


def _plant_corruptions(rows: list[Row], rng: Random) -> list[Row]:
    """Replace the answers of `CORRUPTED` of all rows by wrong ones."""
    candidates = [row for row in rows if row["kind"] in CORRUPTIBLE]
    for row in rows:
        row["clean"] = row["output"]
    for row in rng.sample(candidates, min(len(candidates), round(len(rows) * CORRUPTED))):
        row["output"] = _wrong(row, rng)
    return rows


def build(
    kinds: Sequence[str] = tuple(TRAIN), wrap: bool = True, planted: bool = True
) -> tuple[list[Row], dict[str, Row], list[Row]]:
    """Training records, their truth masks by id, and test records, for all kinds or some."""
    taken = set()
    rows = _clean({k: TRAIN[k] for k in kinds}, "train", wrap, taken)
    if planted:
        rng = stream("finance", "planted")
        rows = _plant_corruptions(_plant_duplicates(rows, rng), rng)
    else:
        rows = [row | {"copy_of": None, "clean": row["output"]} for row in rows]
    ids = {id(row): f"fin-{i:04d}" for i, row in enumerate(rows)}
    fields = ("instruction", "input", "output", "kind")
    train = [{"id": ids[id(row)], **{f: row[f] for f in fields}} for row in rows]
    truth = {
        ids[id(row)]: {
            "near_duplicate_of": ids.get(id(row["copy_of"])),
            "corrupted": row["output"] != row["clean"],
            "clean_output": row["clean"],
            "difficulty": DIFFICULTY[str(row["kind"])],
        }
        for row in rows
    }
    tests = _clean({k: TEST[k] for k in kinds}, "test", wrap, taken)
    test = [{"id": f"fin-test-{i:04d}", **{f: row[f] for f in fields}} for i, row in enumerate(tests)]
    return train, truth, test


def train() -> list[Row]:
    """The bundled training records."""
    return build()[0]
