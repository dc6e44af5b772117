"""Families with exactly one right answer: arithmetic, order, strings, look-up.

Each function draws one `Item`; which split it belongs to follows from its content (`words.split_of`).
"""

from __future__ import annotations

from random import Random

from suites.phantom.words import COLOURS, FOODS, PLACES, THINGS, Item, first_name


def arithmetic(rng: Random) -> Item:
    """Sums and differences of numbers up to 99, never below zero."""
    a, b = (rng.randrange(100) if rng.random() < 0.75 else rng.randrange(10) for _ in "ab")
    plus = rng.random() < 0.5
    if not plus and a < b:
        a, b = b, a
    sign, word, result = ("+", "plus", a + b) if plus else ("-", "minus", a - b)
    forms = [f"What is {a} {sign} {b}?", f"Compute {a} {sign} {b}.", f"{a} {sign} {b} = ?", f"How much is {a} {word} {b}?"]
    n = rng.randrange(len(forms))
    near = [x for x in (result + 1, result - 1, result + 10, result - 10, result + 2) if x >= 0]
    return Item(forms[n], str(result), f"sum:{a}{sign}{b}", tuple(map(str, rng.sample(near, 3))))


def _compare(rng: Random) -> Item:
    a, b = rng.sample(range(1, 100), 2)
    large = rng.random() < 0.5
    word, value = ("larger", max(a, b)) if large else ("smaller", min(a, b))
    return Item(f"Which is {word}, {a} or {b}?", str(value), f"compare:{a}:{b}", (str(a + b - value),))


def _extreme(rng: Random) -> Item:
    xs = rng.sample(range(1, 100), rng.randint(3, 4))
    large = rng.random() < 0.5
    word, value = ("largest", max(xs)) if large else ("smallest", min(xs))
    wrong = tuple(str(x) for x in xs if x != value)
    return Item(f"Which is the {word} of {' '.join(map(str, xs))}?", str(value), f"extreme:{xs}", wrong[:2])


def _sort(rng: Random) -> Item:
    xs = rng.sample(range(1, 100 if rng.random() < 0.5 else 10), rng.randint(3, 4))
    up = rng.random() < 0.5
    done = sorted(xs, reverse=not up)
    swapped = [done[1], done[0], *done[2:]]
    verb = "Sort" if up else "Sort downwards:"
    return Item(
        f"{verb} {' '.join(map(str, xs))}",
        " ".join(map(str, done)),
        f"sort:{sorted(xs)}",
        (" ".join(map(str, swapped)), " ".join(map(str, done[::-1]))),
    )


def order(rng: Random) -> Item:
    """Which is larger, which is the largest, sort these."""
    return rng.choice((_compare, _extreme, _sort, _sort))(rng)


STRING_SKILLS = {
    "reverse": ("Reverse {s}", lambda s: s[::-1]),
    "last": ("What is the last letter of {s}?", lambda s: s[-1:]),
    "first": ("What is the first letter of {s}?", lambda s: s[:1]),
    "capitals": ("Write {s} in capitals.", lambda s: [c.upper() for c in s]),
    "copy": ("Repeat {s}", lambda s: s),
    "second": ("What is the second letter of {s}?", lambda s: s[1:2]),
    "sort": ("Put {s} in alphabetical order.", sorted),
    "odd": ("Write every second letter of {s}", lambda s: s[1::2]),
}


def strings(rng: Random) -> Item:
    """Reverse, sort, copy, pick and capitalise spaced letters."""
    skill = rng.choice(("reverse", "sort", *STRING_SKILLS))
    letters = rng.sample("abcdefghijklmnopqrstuvwxyz", rng.randint(3, 9))
    form, rule = STRING_SKILLS[skill]
    return Item(form.format(s=" ".join(letters)), " ".join(rule(letters)), f"string:{''.join(letters)}")


def _boxes(rng: Random) -> Item:
    n = rng.randint(2, 4)
    colours, things = rng.sample(COLOURS, n), rng.sample(THINGS, n)
    text = " ".join(f"The {t} is in the {c} box." for c, t in zip(colours, things, strict=False))
    i = rng.randrange(n)
    wrong = tuple(x for j, x in enumerate(things) if j != i)
    return Item(f"{text} What is in the {colours[i]} box?", things[i], f"boxes:{text}:{i}", wrong[:2])


def names(rng: Random) -> Item:
    """Who brings what: one hop, from the name to what follows it."""
    n = rng.randint(2, 4)
    names, foods = rng.sample([first_name(rng) for _ in range(40)], n), rng.sample(FOODS, n)
    text = " ".join(f"{a} brings {f}." for a, f in zip(names, foods, strict=False))
    i = rng.randrange(n)
    wrong = tuple(x for j, x in enumerate(foods) if j != i)
    return Item(f"{text} What does {names[i]} bring?", foods[i], f"keys:{text}:{i}", wrong[:2])


def _two_hops(rng: Random) -> Item:
    n = rng.randint(2, 3)
    things, colours, places = rng.sample(THINGS, n), rng.sample(COLOURS, n), rng.sample(PLACES, n)
    links = [f"The {t} is in the {c} box." for t, c in zip(things, colours, strict=False)]
    links += [f"The {c} box is in the {p}." for c, p in zip(colours, places, strict=False)]
    rng.shuffle(links)
    i, text = rng.randrange(n), " ".join(links)
    wrong = tuple(x for j, x in enumerate(places) if j != i)
    return Item(f"{text} Where is the {things[i]}?", places[i], f"hops:{text}:{i}", wrong[:2])


def lookup(rng: Random) -> Item:
    """Find the answer in the question: one hop or two."""
    return rng.choice((_boxes, _boxes, names, names, _two_hops))(rng)
