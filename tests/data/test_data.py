"""Data: a split that stays put, and near-duplicates that never cross it."""

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest

from harness.alike.clusters import components_of, near_to
from harness.alike.grams import GramSets, gram_sets
from harness.data.groups import Groups, turn_keys
from harness.data.split import Dataset, fingerprint, load_dataset, share, split
from harness.errors import PlanError
from harness.files.records import Record, record_id
from harness.files.turns import Turn
from tests.support.shared_data import real

WORDS = [a + b for a in "bcdfgklmnprst" for b in ("ana", "ero", "ilu", "ost", "ude", "arp", "ink")]


def text(seed: object, n: int = 40) -> str:
    return " ".join(random.Random(str(seed)).choices(WORDS, k=n))


def rows(n: int, tag: str = "") -> list[dict]:
    return [{"prompt": text(f"{tag}{i}"), "completion": f"answer {tag}{i}"} for i in range(n)]


def save(folder: Path, rows: list[dict], name: str = "finance.json") -> str:
    (folder / name).write_text(json.dumps(rows), encoding="utf-8")
    return str(folder / name)


def load(folder: Path, rows: list[dict], test: list[dict] | None = None) -> Dataset:
    return load_dataset(save(folder, rows), test=save(folder, test, "test.json") if test else None)


def record(prompt: str, answer: str = "yes", system: str | None = None) -> Record:
    turns = ((Turn("system", system),) if system else ()) + (Turn("user", prompt), Turn("assistant", answer))
    return Record(record_id(turns), turns, "here")


def sides(data: Dataset) -> dict[str, str]:
    return {r.id: side for side in ("train", "dev", "test") for r in getattr(data, side)}


def together(*records: Record) -> bool:
    return len(set(Groups(records).clusters().values())) == 1


def swap(prompt: str, *places: int) -> str:
    words = prompt.split()
    for place in places:
        words[place] = "changed"
    return " ".join(words)


def test_every_record_has_one_side(tmp_path):
    data = load(tmp_path, rows(1000))
    assert len(sides(data)) == len(data.train) + len(data.dev) + len(data.test) == 1000
    assert 150 < len(data.test) < 250 and 70 < len(data.dev) < 130
    assert data.notes[0].startswith(f"finance.json: {len(data.train)} records to train, {len(data.dev)} dev; ")


def test_new_records_move_no_others(tmp_path):
    before = sides(load(tmp_path, rows(600)))
    after = sides(load(tmp_path, rows(900, "new") + rows(600)[::-1]))
    grown = sides(load(tmp_path, rows(300, "new") + rows(600)[::-1]))
    assert {i: grown[i] for i in before} == before
    assert {i for i in before if before[i] == "train"} <= {i for i in before if after[i] == "train"}


def test_order_does_not_matter_to_the_sides_but_to_the_fingerprint(tmp_path):
    one, two = load(tmp_path, rows(200)), load(tmp_path, rows(200)[::-1])
    assert sides(one) == sides(two) and one.fingerprint != two.fingerprint


def test_fingerprint_is_the_content_of_all_parts(tmp_path):
    data = rows(200)
    same = load_dataset(save(tmp_path, data, "other.json"))
    changed = [*data[:-1], data[-1] | {"completion": "answer 199 "}]
    prints = {load(tmp_path, x, t).fingerprint for x, t in ((data, None), (changed, None), (data, rows(9, "t")))}
    assert len(prints) == 3 and same.fingerprint in prints and same.name == "other"


def test_fingerprint_knows_the_parts():
    one, two, three = (record(text(i)) for i in range(3))
    assert fingerprint([one, two], [three]) != fingerprint([one], [two, three])


@pytest.mark.parametrize("n", [60, 300, 511, 512, 1000, 5000, 9000, 20_000, 100_000])
def test_shares_keep_their_bounds(n):
    test, dev = n * share(n, 0.2, 100, 2000, 1 / 3), n * share(n, 0.05, 50, 500, 1 / 6)
    assert min(100, n / 3) <= test + 1e-9 and test <= 2000 and min(50, n / 6) <= dev + 1e-9 and dev <= 500


def test_split_gives_every_part_a_cluster():
    assert sorted(split(["a", "b", "c"], 1e-9, 1e-9).values()) == ["dev", "test", "train"]
    assert sorted(split(["a", "b", "c"], 1e-9, 0.0).values()) == ["dev", "train", "train"]


def test_near_duplicates_and_copies_keep_to_one_side(tmp_path):
    near = [{"prompt": swap(r["prompt"], -1), "completion": r["completion"]} for r in rows(300)]
    data = load(tmp_path, rows(300) + near + rows(50))
    where = sides(data)
    for one, two in zip(rows(300), near, strict=True):
        ids = [record(r["prompt"], r["completion"]).id for r in (one, two)]
        assert data.cluster_of[ids[0]] == data.cluster_of[ids[1]] and where[ids[0]] == where[ids[1]]
    assert len(data.train) + len(data.dev) + len(data.test) == 650
    notes = " ".join(data.notes)
    assert "50 records are exact copies of others" in notes
    assert "600 records ask the same or are near-duplicates, in 300 clusters" in notes


def test_what_counts_as_alike():
    long = text(0, 120)
    assert together(record(long), record(swap(long, 60)))  # Jaccard 0.92
    assert not together(record(long), record(swap(long, 20, 60, 100)))  # 0.78
    assert together(record(long), record(long.replace(" ", ", ")))  # punctuation
    assert together(record("Why is it?", "a"), record("why  is IT?", "b"))  # same question
    assert together(record("Why is it?", "a", "Be brief."), record("Why is it?", "b"))
    assert not together(record("Why is it?", "a"), record("Why was it?", "a"))
    assert not together(record("What is 3 + 4 now?", "a"), record("What is 3 * 4 now?", "b"))


def test_chinese_is_compared_by_characters():
    long = "甲公司本年度应确认的递延所得税资产金额以及当期所得税费用分别是多少万元人民币请根据上述资料计算并且说明理由"
    assert together(record(long), record(long.replace("说明理由", "说明原由")))
    assert not together(record(long), record(long[:20] + "乙" + long[20:30] + "丙" + long[30:40] + "丁" + long[40:]))
    assert len(gram_sets([("a", "甲公司本年度应确认\n是")]).grams) == 6


@pytest.mark.parametrize("texts", [[""], ["one"], ["one two"], ["one", ""], ["one", "two three"]])
def test_fewer_words_than_a_group_has_are_one_group_for_each_text(texts):
    sets = gram_sets((str(place), text) for place, text in enumerate(texts))
    assert len(sets.grams) == sum(bool(text) for text in texts)


def test_conversations_with_an_answered_beginning_in_common_stay_together():
    turns = record("Who?", "Me.").messages
    longer = (*turns, Turn("user", text(1)), Turn("assistant", text(2)))
    other = (turns[0], Turn("assistant", "Not me."), *longer[2:3], Turn("assistant", text(3)))
    records = [Record(record_id(m), m, "here") for m in (turns, longer, other)]
    assert together(*records[:2]) and not together(*records[1:])


def test_boilerplate_makes_nothing_alike():
    task = text("task", 400)
    groups = Groups([record(f"{task}\n{text(i, 8)}") for i in range(60)])
    assert len(set(groups.clusters().values())) == 60


def sets_of(sets: list[set[int]]) -> GramSets:
    grams = np.concatenate([np.array(sorted(one), np.uint32) for one in sets])
    return GramSets([[str(i)] for i in range(len(sets))], grams, np.cumsum([0, *map(len, sets)]))


def test_components_and_neighbours_are_those_of_brute_force():
    base = [set(random.Random(i).sample(range(10**6), 60)) for i in range(60)]
    sets = [set(sorted(s)[k:]) | set(range(k // 2)) for s in base for k in (0, 2, 4, 6, 10)]
    near = {i: {j for j, b in enumerate(sets) if len(a & b) >= 0.85 * len(a | b)} for i, a in enumerate(sets)}
    found = sets_of(sets)
    wanted = set()
    for start in near:
        group = {start}
        while (more := set().union(*(near[i] for i in group))) != group:
            group = more
        wanted.add(frozenset(group))
    assert {frozenset(group) for group in components_of(found)} == {group for group in wanted if len(group) > 1}
    assert len(wanted) < 200
    for chosen in ({0}, {1, 17, 33}, set(range(40))):
        assert near_to(found, chosen) == set().union(*(near[i] for i in chosen))


def test_a_large_cluster_is_compared_once_a_record(monkeypatch):
    """Not once a pair: 400 sets of 100 grams, each with two of its own."""
    compared = []
    alike = GramSets.alike

    def counted(self: GramSets, one: int, others: np.ndarray, similar: float) -> np.ndarray:
        compared.append(len(others))
        return alike(self, one, others, similar)

    monkeypatch.setattr(GramSets, "alike", counted)
    sets = sets_of([set(range(98)) | {1000 + i, 2000 + i} for i in range(400)])
    assert [len(group) for group in components_of(sets)] == [400]
    assert 399 <= sum(compared) < 4 * 400


def test_a_long_conversation_is_read_once_a_turn():
    """Each turn is hashed once, however many answers follow it."""
    turns = tuple(Turn(("user", "assistant")[i % 2], f"turn {i}") for i in range(3000))
    begin = time.process_time()
    answered, asked = turn_keys(Record("x", turns, "here"))
    assert time.process_time() - begin < 1 and len(set(answered)) == 1500 and len(asked) == 1


def test_a_test_file_is_the_test_and_training_forgets_it(tmp_path):
    train, test = rows(300), rows(250, "t")
    copy, loud = test[0], {k: v.upper() for k, v in test[1].items()}
    near = test[2] | {"prompt": swap(test[2]["prompt"], 0)}
    data = load(tmp_path, [*train, copy, copy, loud, near], test)
    assert len(data.test) == 250 and len(data.train) + len(data.dev) == 300
    left_out = "4 records also stand in test.json (2 exactly, 1 with the same question and answer, 1 nearly)"
    assert any(note.startswith(left_out) for note in data.notes)


def test_same_question_other_answer_is_no_copy_of_the_test(tmp_path):
    data = load(tmp_path, [*rows(100), {"prompt": "Why?", "completion": "x"}], [{"prompt": "Why?", "completion": "y"}])
    assert len(data.train) + len(data.dev) == 101


def test_small_tests_are_noted_and_large_ones_not(tmp_path):
    assert any("Only" in note and "test records" in note for note in load(tmp_path, rows(300)).notes)
    assert not any("Only" in note for note in load(tmp_path, rows(300), rows(200, "t")).notes)


def test_one_big_cluster_is_noted(tmp_path):
    alike = [{"prompt": "Say it.", "completion": text(f"alike{i}")} for i in range(100)]
    assert any("largest cluster of like records holds 100 of 300" in note for note in load(tmp_path, alike + rows(200)).notes)


def test_too_little_to_train_or_measure_is_refused(tmp_path):
    with pytest.raises(PlanError, match="at least 10 training records"):
        load(tmp_path, rows(9))
    with pytest.raises(PlanError, match=r"after what .*test.json also holds was left out"):
        load(tmp_path, rows(50), rows(50))
    with pytest.raises(PlanError, match=r"nearly all its records are alike; .*TEST="):
        load(tmp_path, rows(1) * 50)


def test_faults_of_data_and_test_come_together(tmp_path):
    with pytest.raises(PlanError) as caught:
        load(tmp_path, [{"prompt": "x"}], [{"completion": "y"}])
    assert [fault.split()[0] for fault in caught.value.faults] == ["finance.json", "test.json"]


@pytest.mark.parametrize("path", real("finance/finance_short.json", "finance/finance_zh.json"))
def test_real_files_split_as_asked(path):
    data = load_dataset(str(path))
    total = len(data.train) + len(data.dev) + len(data.test)
    assert 0.15 < len(data.test) / total < 0.25 and 0.03 < len(data.dev) / total < 0.07
    prompts = [{r.messages[:-1] for r in part} for part in (data.train, data.dev, data.test)]
    assert not (prompts[0] & prompts[1] or prompts[0] & prompts[2] or prompts[1] & prompts[2])
