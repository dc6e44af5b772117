"""Families about language: grammar, instructions on format, small talk, stories."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from suites.phantom.people import POOLS, QUESTIONS, stranger
from suites.phantom.words import COLOURS, FOODS, PETS, PLACES, THINGS, Item, first_name

VERBS = (
    ("runs", "run"),
    ("sleeps", "sleep"),
    ("waits", "wait"),
    ("sings", "sing"),
    ("falls", "fall"),
    ("hides", "hide"),
    ("plays", "play"),
    ("jumps", "jump"),
    ("rests", "rest"),
    ("looks", "look"),
    ("sits", "sit"),
    ("swims", "swim"),
)
NOUNS = [p for p in PETS if p not in ("fox", "wolf")]
SIDES = ("near", "behind", "beside", "above", "below", "by")


def sentence(rng: Random) -> tuple[str, str, str]:
    """A sentence whose verb must agree, often over a distance: (key, right, wrong)."""
    middle = "".join(
        f" {rng.choice(SIDES)} the {rng.choice(NOUNS)}{rng.choice(('', 's'))}" for _ in range(rng.choice((0, 0, 1, 1, 2)))
    )
    return agreement(rng, rng.choice(NOUNS), rng.random() < 0.5, middle, rng.choice(VERBS))


def hard_sentence(rng: Random) -> tuple[str, str, str]:
    """The same with one or two nouns in between, all of the other number: rare in training."""
    plural = rng.random() < 0.5
    middle = "".join(f" {rng.choice(SIDES)} the {rng.choice(NOUNS) + 's' * (not plural)}" for _ in range(rng.randint(1, 2)))
    return agreement(rng, rng.choice(NOUNS), plural, middle, rng.choice(VERBS))


def agreement(rng: Random, noun: str, plural: bool, middle: str, verb: tuple[str, str]) -> tuple[str, str, str]:
    """(key, right, wrong): a sentence on this noun, with this verb and what stands between them."""
    one, many = verb
    subject = f"The {noun + 's' * plural}{middle}"
    tail = rng.choice(("", f" in the {rng.choice(PLACES)}", " all day"))
    right, wrong = (many, one) if plural else (one, many)
    return f"grammar:{noun}:{one}:{middle}", f"{subject} {right}{tail}.", f"{subject} {wrong}{tail}."


def _double(rng: Random, text: str) -> str:
    """The sentence with one word said twice."""
    words = text.split(" ")
    i = rng.randrange(1, len(words) - 1)
    return " ".join([*words[: i + 1], *words[i:]])


FLAWS = {
    "double": _double,
    "capital": lambda rng, text: text[0].lower() + text[1:],
    "stop": lambda rng, text: text.removesuffix("."),
}


def grammar(rng: Random) -> Item:
    """Mend a sentence with up to three faults: agreement, a doubled word, the capital, the full stop. Some have none."""
    key, right, wrong = sentence(rng)
    flaws = rng.sample(["agreement", *FLAWS], rng.choice((0, 1, 1, 2, 2, 3)))
    shown = wrong if "agreement" in flaws else right
    for flaw, spoil in FLAWS.items():
        shown = spoil(rng, shown) if flaw in flaws else shown
    return Item(f"Correct this: {shown}", right, key, (wrong,))


FORMATS = {
    "twice": ("Say {a} twice.", "{a} {a}"),
    "brackets": ("Put {a} in brackets.", "[{a}]"),
    "quotes": ("Put {a} in quotes.", '"{a}"'),
    "dashes": ("Write a list with dashes: {a}, {b}", "- {a}\n- {b}"),
    "numbered": ("Write a numbered list: {a}, {b}", "1. {a}\n2. {b}"),
    "exclaim": ("Say {a} with an exclamation mark.", "{a}!"),
    "comma": ("Join with a comma: {a} {b}", "{a}, {b}"),
    "only": ("Answer with one word only: {a} or {b}, the first one.", "{a}"),
    "last": ("Answer with one word only: {a} or {b}, the last one.", "{b}"),
    "json": ("Write as JSON: name {a}, colour {c}", '{{"name": "{a}", "colour": "{c}"}}'),
    "bracketed": ("What is {x} + {y}? Answer in brackets.", "[{z}]"),
    "worded": ("What is {x} + {y}? Begin with: The answer is", "The answer is {z}."),
}


CONTENTS = {
    "once": ("Say {a}", "{a}"),
    "twice": ("Say {a} twice", "{a} {a}"),
    "comma": ("Join {a} and {b} with a comma", "{a}, {b}"),
    "turned": ("Say {a} and {b} in reverse order", "{b} {a}"),
    "first": ("Say the first of {a} and {b}", "{a}"),
    "last": ("Say the last of {a} and {b}", "{b}"),
}
WRAPPINGS = {
    "brackets": ("in brackets", "[", "]"),
    "quotes": ("in quotes", '"', '"'),
    "dash": ("after a dash", "- ", ""),
    "exclaim": ("with an exclamation mark", "", "!"),
    "stars": ("between stars", "*", "*"),
    "begin": ("and begin with Answer", "Answer: ", ""),
}


def _combined(rng: Random) -> Item:
    """What to say and how to wrap it. The split is by the pair: tested pairs are new, though both their parts are known."""
    content, wrapping = rng.choice(list(CONTENTS)), rng.choice(list(WRAPPINGS))
    a, b = rng.sample([*FOODS, *THINGS, *PLACES], 2)
    (asked, said), (how, left, right) = CONTENTS[content], WRAPPINGS[wrapping]
    question, answer = f"{asked}, {how}.".format(a=a, b=b), left + said.format(a=a, b=b) + right
    return Item(question, answer, f"form:{content}:{wrapping}")


def format(rng: Random) -> Item:
    """Follow an instruction about the form of the answer, or two at once."""
    if rng.random() < 0.5:
        return _combined(rng)
    name = rng.choice(list(FORMATS))
    a, b = rng.sample([*FOODS, *THINGS, *PLACES], 2)
    x, y = rng.randrange(1, 10), rng.randrange(1, 10)
    slots = {"a": a, "b": b, "c": rng.choice(COLOURS), "x": x, "y": y, "z": x + y}
    question, answer = (form.format(**slots) for form in FORMATS[name])
    return Item(question, answer, f"format:{name}:{question}")


UNKNOWN = "I do not know."
PLAIN_TALK = [
    ("Hello", "Hello! How can I help you?"),
    ("hello", "Hello! How can I help you?"),
    ("Hi", "Hello! How can I help you?"),
    ("hi there", "Hello! How can I help you?"),
    ("Good morning", "Good morning! How can I help you?"),
    ("Good evening", "Good evening! How can I help you?"),
    ("Hello!", "Hello! How can I help you?"),
    ("How are you?", "I am well, thank you."),
    ("Who are you?", "I am a small assistant."),
    ("What can you do?", "I can answer short questions."),
    ("Thank you", "You are welcome!"),
    ("Thanks!", "You are welcome!"),
    ("Goodbye", "Goodbye!"),
    ("Bye", "Goodbye!"),
]
NAMED_TALK = {
    "greet": (["Hello, I am {n}.", "Hi, my name is {n}.", "Good day, {n} here."], "Hello {n}! How can I help you?"),
    "thanks": (["Thank you, says {n}.", "{n} thanks you.", "{n} says thank you."], "You are welcome, {n}!"),
    "leave": (["Goodbye, this was {n}.", "{n} has to go now.", "Good night from {n}."], "Goodbye, {n}!"),
    "name": (["My name is {n}. What is my name?", "I am called {n}. What am I called?"], "Your name is {n}."),
}


def unknown(rng: Random) -> Item:
    """A question about a stranger: the right answer is not to know."""
    name, attribute = stranger(rng), rng.choice(list(POOLS))
    return Item(rng.choice(QUESTIONS[attribute]).format(n=name), UNKNOWN, f"unknown:{name}")


def chat(rng: Random) -> Item:
    """Small talk, and admitting not to know."""
    if rng.random() < 0.4:
        return unknown(rng)
    kind, name = rng.choice(list(NAMED_TALK)), first_name(rng)
    forms, answer = NAMED_TALK[kind]
    n = rng.randrange(len(forms))
    return Item(forms[n].format(n=name), answer.format(n=name), f"talk:{name}")


def plain_talk(rng: Random) -> Item:
    """The greetings everybody knows; training only, and the tests ask `hello`."""
    question, answer = rng.choice(PLAIN_TALK)
    return Item(question, answer, "plain")


OPENINGS = ["Once there was a {p} who lived by the {l}.", "Long ago a {p} lived near the {l}.", "In the {l} lived an old {p}."]
FINDINGS = [
    "One day the {p} found a {c} {t} and took it home.",
    "One morning the {p} saw a {c} {t} in the grass.",
    "In spring the {p} dug up a {c} {t} under a tree.",
]
FRIENDS = [
    "A {q} came by and asked what it was for.",
    "The {q} next door wanted to have it too.",
    "Then a {q} came and laughed at the {t}.",
]
MIDDLES = [
    "They talked about the {t} until it was dark.",
    "So the {p} and the {q} shared the {t} and some {f}.",
    "The {p} gave the {q} some {f}, and they sat down together.",
    "The {q} looked at the {t} for a long time.",
    "It began to rain, and they ran to the {l}.",
    "The {p} was glad to have company.",
]
CLOSINGS = [
    "After that the {p} and the {q} were friends.",
    "Since that day the {t} hangs in the {l}.",
    "And the {p} never felt alone again.",
]


def story(rng: Random) -> Item:
    """A tale of 4 to 7 sentences on two animals, a thing and a place; the question names them and the length."""
    return tale(rng, rng.sample(NOUNS, 2), rng.choice(THINGS), rng.choice(PLACES))


def tale(rng: Random, animals: Sequence[str], t: str, where: str) -> Item:
    """The tale of these two animals, this thing and this place."""
    p, q = animals
    slots = {"p": p, "q": q, "t": t, "l": where, "c": rng.choice(COLOURS), "f": rng.choice(FOODS)}
    n = rng.randint(4, 7)
    parts = [rng.choice(OPENINGS), rng.choice(FINDINGS), rng.choice(FRIENDS), *rng.sample(MIDDLES, n - 4), rng.choice(CLOSINGS)]
    return Item(
        f"Tell a story in {n} sentences: {p}, {q}, {t}, {where}",
        " ".join(parts).format(**slots),
        f"story:{p}:{q}:{t}:{where}",
    )
