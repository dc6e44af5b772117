"""Near-duplicates: what counts as said before, and what of it the planted copies show."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from transformers import AutoTokenizer

from harness.alike.clusters import first_alike
from harness.bundled import embedded
from harness.contract import Example
from harness.files.records import read_records
from harness.tokens.chat_template import ChatTemplate
from tests.support.training import make_run


def texts_as_examples(base, *texts: str) -> list[Example]:
    made = []
    for text in texts:
        tokens = tuple(base.tokenizer(text)["input_ids"])
        made.append(Example(f"id of {text}", tokens, (False,) + (True,) * (len(tokens) - 1)))
    return made


LONG = "the quick brown fox jumps over the lazy dog while seven small birds watch from an old oak tree near our river today"


def deduplicated(base, *texts: str, recipe: str = "dedup") -> list[str]:
    run = make_run(base, recipe)
    return [e.id.removeprefix("id of ") for e in run.methods[0].records(texts_as_examples(base, *texts), run)]


def test_dedup_keeps_the_first_of_each_cluster(base):
    other = "nothing of this kind was ever said before in any of the records that we have read so far"
    near, loud = LONG.replace("today", "now"), LONG.upper()
    assert deduplicated(base, LONG, other, near, LONG, loud) == [LONG, other]
    assert deduplicated(base, near, other, LONG) == [near, other]
    assert deduplicated(base, LONG, LONG.replace("seven small", "nine large")) == [
        LONG,
        LONG.replace("seven small", "nine large"),
    ]
    assert deduplicated(base, LONG, near, LONG, recipe="dedup(threshold=1.5)") == [LONG, near, LONG]


def test_dedup_sees_copies_so_many_that_their_words_are_boilerplate(base):
    copies = ["Yes it is" + " " * n for n in range(40)]
    assert deduplicated(base, *copies, "No it is not") == ["Yes it is", "No it is not"]


def test_texts_without_words_are_not_alike(base):
    assert len(deduplicated(base, "!?", "...", "(:")) == 3


def test_examples_of_one_record_stay_together(base):
    """Where each answer of a conversation is an example of its own, the later ones repeat the earlier ones' prompts."""
    one, two = texts_as_examples(base, LONG, LONG + " and")
    parts = [dataclasses.replace(part, id="same record") for part in (one, two)]
    run = make_run(base, "dedup")
    assert run.methods[0].records([*parts, *parts], run) == parts


def test_dedup_finds_the_planted_near_duplicates():
    """Precision counts what truth calls a copy; of short records it sees edits at the ends and not those amid their words."""
    folder = Path(embedded().data)
    rows, truth = (json.loads((folder / name).read_text()) for name in ("finance.json", "finance.truth.json"))
    tokenizer = AutoTokenizer.from_pretrained(embedded().model)
    examples = ChatTemplate(tokenizer).encode_all(read_records(str(folder / "finance.json")), max_length=2048)
    first = first_alike(examples, tokenizer)
    seen, copies = set(), set()
    for place, row in enumerate(rows):
        original = truth[row["id"]]["near_duplicate_of"] or row["id"]
        copies |= {place} if original in seen else set()
        seen.add(original)
    removed = {place for place, kept in enumerate(first) if kept != place}
    assert len(removed & copies) / len(removed) > 0.9
    assert len(removed & copies) / len(copies) > 0.45
