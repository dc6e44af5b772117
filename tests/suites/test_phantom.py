"""The phantom: its world follows from the seed, its tests are not in its training, its base behaves."""

import hashlib
import json
from pathlib import Path

import pytest

from suites.phantom import files, finance, people, world
from suites.phantom.words import stream

HERE = Path(world.__file__).parent
BASE = HERE / "base"


def read(name):
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def questions(records):
    return {(r["instruction"], r["input"]) for r in records}


@pytest.fixture(scope="module")
def items():
    """Every test item of every general task, by task."""
    return {
        p.stem: [json.loads(line) for line in p.read_text(encoding="utf-8").splitlines()]
        for p in (HERE / "tasks/items").glob("*.jsonl")
    }


@pytest.fixture(scope="module")
def tokenizer():
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(BASE)


@pytest.fixture(scope="module")
def base():
    torch = pytest.importorskip("torch")
    return pytest.importorskip("transformers").AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)


# ---------------------------------------------------------------- the world


def test_every_file_follows_from_the_seed():
    for path, text in files.contents().items():
        assert (HERE / path).read_bytes() == text.encode(), f"{path} is stale: python -m suites.phantom.build --only files"


def test_no_file_without_a_maker():
    made = {Path(p).name for p in files.contents()}
    assert {p.name for p in (HERE / "tasks").glob("*.yaml")} | {p.name for p in (HERE / "data").iterdir()} <= made


def test_every_task_has_its_items_with_distinct_ids(items):
    for task, rows in items.items():
        family = world.FAMILIES[task.removesuffix("_choice").removesuffix("_pairs")]
        assert len(rows) == len({r["id"] for r in rows}) == family.items, task


def test_the_right_answer_is_among_the_choices_once(items):
    rows = [r for rows in items.values() for r in rows if "choices" in r]
    assert rows and all(r["choices"].count(r["answer"]) == 1 and len(set(r["choices"])) == len(r["choices"]) for r in rows)


def test_seen_and_held_out_families_split_in_half():
    assert {f.seen for f in world.FAMILIES.values()} == {True, False}
    assert abs(len(world.SEEN) - len(world.FAMILIES) / 2) <= 0.5


def test_methods_see_only_seen_families():
    assert {r["family"] for r in read("general.json") + read("general_dev.json")} == set(world.SEEN)


def test_test_pool_and_dev_are_disjoint(items):
    tested = {r["question"] for rows in items.values() for r in rows}
    pool, dev = ({r["instruction"] for r in read(f)} for f in ("general.json", "general_dev.json"))
    assert not tested & pool and not tested & dev and not pool & dev


def test_no_test_question_in_pretraining(items):
    tested = {r["question"] for rows in items.values() for r in rows} - {""}
    documents = [text for phase in range(3) for text in world.documents(stream("corpus", 0, phase), 2000, phase)]
    turns = {turn.split(world.END)[0] for text in documents for turn in text.split(world.ROLES["user"])}
    assert not turns & tested


def test_no_company_of_the_domain_in_pretraining():
    text = "".join(world.documents(stream("corpus", 0, 60), 4000, phase=2))
    assert not any(name in text for name in finance.COMPANIES)


def test_no_grammar_pair_in_pretraining(items):
    text = "".join(world.documents(stream("corpus", 0, 0), 4000))
    assert not any(choice in text for row in items["grammar_pairs"] for choice in row["choices"])


def test_a_tested_wording_is_never_asked_in_training(items):
    tested = {r["question"] for r in items["facts"]}
    rng = stream("a test of the tests")
    asked = {draw(rng).question for draw in (people.facts, people.held_facts) for _ in range(3000)}
    assert tested and not asked & tested


# ---------------------------------------------------------------- the domain


def test_domain_is_large_enough():
    assert len(read("data/finance.json")) >= 1500 and len(read("data/finance.test.json")) >= 500


def test_no_domain_test_prompt_in_training():
    assert not questions(read("data/finance.json")) & questions(read("data/finance.test.json"))


def test_masks_cover_all_records_and_match_the_planted_shares():
    train, truth = read("data/finance.json"), read("data/finance.truth.json")
    assert [r["id"] for r in train] == list(truth)
    assert sum(t["near_duplicate_of"] is not None for t in truth.values()) == round(len(train) * finance.NEAR_DUPLICATES)
    assert sum(t["corrupted"] for t in truth.values()) == round(len(train) * finance.CORRUPTED)


def test_masks_tell_the_clean_answer():
    truth = read("data/finance.truth.json")
    assert all(
        (r["output"] != truth[r["id"]]["clean_output"]) == truth[r["id"]]["corrupted"] for r in read("data/finance.json")
    )


def test_a_near_duplicate_keeps_the_answer_and_most_of_the_prompt():
    train, truth = {r["id"]: r for r in read("data/finance.json")}, read("data/finance.truth.json")
    for key, mask in truth.items():
        if mask["near_duplicate_of"]:
            source = mask["near_duplicate_of"]
            assert mask["clean_output"] == truth[source]["clean_output"] and train[key]["input"] == train[source]["input"]
            assert truth[source]["near_duplicate_of"] is None


def test_no_record_tells_its_mask():
    assert {tuple(r) for r in read("data/finance.json")} == {("id", "instruction", "input", "output", "kind")}


def test_a_kind_can_be_had_alone():
    train, truth, test = finance.build(("figure",), planted=False)
    assert {r["kind"] for r in train + test} == {"figure"} and not any(t["corrupted"] for t in truth.values())


def test_conflicts_contradict_the_world_and_are_not_tested(items):
    known = {p.name: p.facts for p in people.PEOPLE}
    assert all(value != known[n][a] for n, facts in finance.CONFLICTS.items() for a, value in facts.items())
    assert not {r["cluster"] for r in items["facts"]} & set(finance.CONFLICTS)


# ---------------------------------------------------------------- the base


@pytest.mark.parametrize("text", ["hello", "naïve café", "你好，世界", "🙂 ok", "a\tb\n\nc  d", "x = 1234.5%", "\u0000\u200b"])
def test_any_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_digits_stand_alone(tokenizer):
    assert [tokenizer.decode([t]) for t in tokenizer.encode("20480", add_special_tokens=False)] == list("20480")


def test_special_tokens_are_distinct_and_known_to_the_configuration(tokenizer, base):
    ids = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id]
    assert len(set(ids)) == 3 and None not in ids
    for config in (base.config, base.generation_config):
        assert [config.bos_token_id, config.eos_token_id, config.pad_token_id] == ids


def test_the_template_of_a_longer_talk_begins_with_the_shorter(tokenizer):
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "bye"},
    ]
    whole = tokenizer.apply_chat_template(talk, tokenize=False)
    prompt = tokenizer.apply_chat_template(talk[:2], tokenize=False, add_generation_prompt=True)
    assert whole.startswith(prompt) and whole.startswith(tokenizer.bos_token)
    with pytest.raises(Exception, match="unknown role"):
        tokenizer.apply_chat_template([{"role": "bank", "content": "x"}])


def test_the_base_greets_and_stops(tokenizer, base):
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hello"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = base.generate(**prompt, max_new_tokens=40, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert out[-1] == tokenizer.eos_token_id and "Hello" in tokenizer.decode(out)


def test_the_base_is_small_and_is_the_one_on_its_card(base):
    weights = BASE / "model.safetensors"
    assert 3e6 <= base.num_parameters() <= 6e6 and base.config.num_hidden_layers >= 6
    assert sum(p.stat().st_size for p in BASE.iterdir()) < 12e6
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in (BASE / "README.md").read_text()


# ---------------------------------------------------------------- its pretraining


def test_packed_rows_hold_every_document_once_and_whole():
    from suites.phantom import pretrain

    rng = stream("rows")
    documents = [[i] * rng.randint(1, pretrain.LENGTH + 1) for i in range(300)]
    rows = pretrain.side_by_side(documents)
    assert sorted(list(document) for row in rows for document in row) == documents
    assert all(sum(map(len, row)) <= pretrain.LENGTH + 1 for row in rows)


def test_a_document_sees_itself_and_no_other():
    torch = pytest.importorskip("torch")
    from suites.phantom import pretrain

    seen = pretrain.attention_mask(torch.tensor([[0, 0, 1, 1, -1]]))[0, 0] == 0
    assert seen.int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1],
    ]


def test_what_is_trained_on_is_weighed_by_who_says_it(tokenizer):
    from suites.phantom import pretrain

    text = f"{world.BOS}{world.ROLES['user']}hello{world.END}{world.ROLES['assistant']}Hello!{world.END}"
    (ids,) = tokenizer([text], add_special_tokens=False)["input_ids"]
    weights = pretrain.weights(tokenizer, ids)
    split = ids.index(tokenizer.convert_tokens_to_ids(world.ROLES["assistant"]))
    assert weights[0] == 0 and weights[2:split] == [pretrain.PROMPT_WEIGHT] * (split - 2)
    assert weights[split:] == [1.0] * (len(ids) - split)


@pytest.mark.slow
def test_the_base_meets_its_gates():
    """The cheap gates of `make calibrate`: able on the whole, and no family at its floor or ceiling."""
    card = pytest.importorskip("suites.phantom.card")
    scores = {meta["family"]: score for _, meta, score in card.evaluate(BASE) if meta["channel"] == "generation"}
    assert sum(scores.values()) / len(scores) >= 0.85, scores
    assert all(0.6 <= score <= 0.99 for score in scores.values()), scores
