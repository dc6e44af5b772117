"""Plain text in the wording of finance, about companies nobody asks about.

A real base model has read the trade's words before it is fine-tuned. So has this one: it knows how a filing or a
dividend is spelt and what stands next to it, but no fact and no worked figure of the domain.
"""

from __future__ import annotations

from random import Random

from suites.phantom.people import stranger
from suites.phantom.words import CITIES, COLOURS, FOODS, JOBS, PETS, last_name

FORMS = ("Group", "Bank", "Trust", "Capital", "Fund", "Holding")
SENTENCES = (
    "According to the filing, {n} is based in {city}.",
    "The seat of {n} is {city}.",
    "The head office of {n} is in {city}, says the register.",
    "The main product of {n} is {food}.",
    "{n} sells {food} and trades other goods.",
    "The brand colour of {n} is {colour}.",
    "The logo of {n} is {colour} and shows a {pet}.",
    "The mascot of {n} is a {pet}.",
    "Director {person} of {n} lives in {city}.",
    "According to the filing, director {person} is listed as a {job}.",
    "{n}: revenue {a}, costs {b}.",
    "{n}: sales now {a}, sales before {b}.",
    "{n}: first half {a}, second half {b}.",
    "{n} had revenue of EUR {a} million and costs of EUR {b} million.",
    "The profit of {n} was EUR {a} million, the increase EUR {b} million, the total EUR {c} million.",
    "The annual report of {n} says that the outlook for the coming year is {outlook}.",
    "The board of {n} thanks all employees and all shareholders for their trust.",
    "A client asks: should I buy, sell or hold {n}? Is it safe, will it rise?",
    "This is not investment advice. Please read the prospectus of {n}.",
    "Good news, a positive sentiment: {n} {good} {when}.",
    "Bad news, a negative sentiment: {n} {bad} {when}.",
    "No news, a neutral sentiment: {n} {plain} {when}.",
)
WORDS = {
    "city": CITIES, "food": FOODS, "colour": COLOURS, "pet": PETS, "job": JOBS,
    "outlook": ("stable", "good", "weak"),
    "good": ("rose", "gained", "beat the forecast", "had strong sales", "saw high demand", "won a large order"),
    "bad": ("fell", "lost", "missed the forecast", "had weak sales", "saw low demand", "cut the dividend"),
    "plain": ("will report on Monday", "moved to a new office", "held its yearly meeting", "named a new auditor"),
    "when": ("today", "this week", "this month", "in spring", "in autumn", "last year"),
}  # fmt: skip


def passage(rng: Random) -> str:
    """A few sentences on one company, made up on the spot."""
    slots = {"n": f"{last_name(rng)} {rng.choice(FORMS)}", "person": stranger(rng)}
    slots |= {name: rng.choice(words) for name, words in WORDS.items()}
    slots |= {name: rng.randrange(2, 100) for name in "abc"}
    return " ".join(sentence.format(**slots) for sentence in rng.sample(SENTENCES, rng.randint(2, 4)))
