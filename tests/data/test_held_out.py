"""Held out is checked: wording, templates and sources of a suite against the general pool."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.alike.grams import words
from harness.data.contamination import ContaminatedTask
from harness.data.held_out import TEXTS, check_families, held_out_texts, shared_frames
from harness.files.records import Record
from harness.files.turns import Turn


def task(name: str, questions: list[str], suite: str = "mine.jsonl", seen: bool = False):
    own = SimpleNamespace(doc_to_text=lambda doc: doc, eval_docs=questions, OUTPUT_TYPE="generate_until")
    return SimpleNamespace(name=name, family=name, group="general", suite=suite, seen=seen, task=own)


def pool(*questions: str) -> list[Record]:
    return [Record(f"r{i}", (Turn("user", q), Turn("assistant", "yes")), "made up") for i, q in enumerate(questions)]


CAPITALS = [f"What is the capital of {name}?" for name in ("Peru", "Chad", "Laos", "Mali", "Iran", "Cuba", "Fiji", "Oman")]
SUMS = [f"Add {i} and {i + 7} for me please." for i in range(30)]
FREE = [
    "Why do leaves fall?",
    "Tell me of the sea.",
    "Is rust an oxide of iron?",
    "Name a long river.",
    "How old is Rome?",
]


def checked(tasks, records, found=(), source=""):
    return {family.family: family for family in check_families(tasks, records, found, source)}


def test_a_family_whose_templates_stand_in_the_pool_counts_as_seen():
    records = pool(*SUMS[:3], "What is the capital of Togo?", "A poem on rain")
    families = checked([task("capitals", CAPITALS), task("free", FREE)], records)
    assert families["capitals"].seen and families["capitals"].templates == 1 and not families["free"].seen
    note = families["capitals"].note
    assert note.startswith("capitals is declared held out") and "100% of its 8 items have a template" in note
    assert families["free"].note == "" and families["free"].templates == 0


def test_a_phrase_that_anybody_says_is_no_template():
    records = pool("What is love?", "What is a gram?", "Why do cats purr?")
    assert not checked([task("capitals", CAPITALS), task("free", FREE)], records)["capitals"].seen


@pytest.mark.parametrize(("items", "seen"), [(2, False), (3, True)])
def test_wording_counts_by_its_share_of_the_items(items, seen):
    found = ContaminatedTask("sums", "mine.jsonl", 30, {"domain": (), "general": tuple(range(items))}, (), ())
    family = checked([task("sums", SUMS)], pool("Good day"), [found])["sums"]
    assert family.seen == seen and family.wording == pytest.approx(items / 30)


def test_one_source_is_seen_and_what_is_declared_seen_stands(tmp_path):
    file = tmp_path / "items.jsonl"
    file.write_text("{}")
    families = checked(
        [task("one", FREE, str(file)), task("two", FREE), task("three", FREE, seen=True)], pool("Hm"), source=str(file)
    )
    assert [families[name].seen for name in ("one", "two", "three")] == [True, False, True]
    assert "one source" in families["one"].note and families["three"].note == ""
    assert checked([task("one", FREE, "owner/set")], pool("Hm"), source="owner/set:train")["one"].source


def test_letters_and_numbers_are_filled_in_however_frequent_they_are():
    """A family of letter puzzles has 26 words and a frame: each letter stands in more than 5 % of its items."""
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    puzzles = [
        words(f"What is the last letter of {' '.join(alphabet[(i * 7 + k * k) % 26] for k in range(6))}?") for i in range(60)
    ]
    assert shared_frames(puzzles, [words("What is the last letter of q x v?")]) == 1
    assert shared_frames(puzzles, [words("What is the first letter of q x v?"), words("q x v")]) == 0


def test_frames_leave_open_what_few_items_hold():
    asked, said = ([words(text) for text in texts] for texts in (CAPITALS, ["What is the capital of Old Rome?"]))
    assert shared_frames(asked, said) == 1
    assert shared_frames(asked, [words("What is the capital letter?")]) == 0


def test_texts_of_held_out_families_are_their_questions_with_right_answers():
    def of(name: str, kind: str, targets: list, seen: bool = False, choices: tuple = ()):
        own = SimpleNamespace(
            doc_to_text=lambda doc: doc and f"{name} {doc}?",
            doc_to_target=lambda doc: targets[doc - 1] if doc else "x",
            doc_to_choice=lambda doc: list(choices),
            eval_docs=list(range(len(targets) + 1)),
            OUTPUT_TYPE=kind,
        )
        return SimpleNamespace(name=name, family=name, group="general", suite="", seen=seen, task=own)

    tasks = [of("say", "generate_until", [["a", "b"], "c"]), of("pick", "multiple_choice", [1], choices=("no", "yes"))]
    tasks.append(of("known", "generate_until", ["z"], seen=True))
    told = {(record.messages[0].content, record.messages[1].content) for record in held_out_texts(tasks)}
    assert told == {("say 1?", "a"), ("say 2?", "c"), ("pick 1?", "yes")}, "no seen family, nothing without a question"
    many = held_out_texts([of(f"t{i}", "generate_until", [str(j) for j in range(200)]) for i in range(3)])
    assert len(many) == TEXTS
