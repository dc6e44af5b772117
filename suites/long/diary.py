"""A long plain text in which nothing matters: the diary of a harbour town, written by rules with a seed."""

from __future__ import annotations

import random
from pathlib import Path

SEED = 0
SIZE = 120_000
"""Characters: more than 16,384 tokens of any tokenizer that has words."""
WORDS = Path(__file__).parent / "words.txt"
"""What the sentences are made of: a line `name: word|word|...` for each name in braces."""
SENTENCES = (
    "{day} {weather}.",
    "{day} {weather}, and {who} {did}.",
    "{who} brought {thing} to {place}.",
    "{felt}.",
    "{guest} arrived with {thing} and asked the way to {place}.",
    "At {place}, {who} and {who} {did}.",
    "{who} said that {weather} in the year when {who} {did}.",
    "There were {number} boats at {place}, one of them without a name.",
    "{day} {who} found {thing} near {place}.",
    "{who} wanted to exchange {thing} for {thing}, but {who} would not hear of it.",
    "For {number} days in a row {who} {did}.",
    "It is said that {who} once {did} in front of {place}.",
    "{guest} stayed for {number} nights and {did}.",
    "{day} {number} people waited at {place} because {weather}.",
    "{who} promised to bring {thing}, and came with {thing} instead.",
    "While {weather}, {who} {did} at {place}.",
    "Nobody knew why {who} kept {thing} behind {place}.",
    "{day} the road to {place} was closed, since {who} had left {thing} in the middle of it.",
    "{who} measured {place} and found it {number} steps shorter than last year.",
    "{who} has not spoken to {who} since {number} weeks ago.",
)


def diary() -> str:
    """Return the text: paragraphs with an empty line between them."""
    rng = random.Random(SEED)
    choices = {}
    for line in WORDS.read_text(encoding="utf-8").splitlines():
        name, _, words = line.partition(": ")
        choices[name] = words.split("|")
    paragraphs: list[str] = []
    size = 0
    while size < SIZE:
        sentences = []
        for _ in range(rng.randint(3, 6)):
            sentence = rng.choice(SENTENCES)
            for name, words in choices.items():
                while f"{{{name}}}" in sentence:
                    sentence = sentence.replace(f"{{{name}}}", rng.choice(words), 1)
            sentences.append(sentence[0].upper() + sentence[1:])
        paragraphs.append(" ".join(sentences))
        size += len(paragraphs[-1]) + 2
    return "\n\n".join(paragraphs) + "\n"
