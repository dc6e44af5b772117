"""The standard suites: lm-eval's own tasks, from local files; and the bundled dialogue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from harness.bundled import find_suites, for_own_models
from harness.errors import PlanError
from harness.evaluation.evaluator import Evaluator
from harness.evaluation.item_rows import item_score
from harness.plan.load import resolve_places
from harness.plan.plan import Plan
from harness.stats.analysis import detectable
from harness.tasks.lm_eval_collection import Collection
from harness.tasks.subset import drawn, gathered, without
from harness.tasks.suites import load_suite
from harness.text.rules import broken, parse_rules
from harness.tokens.chat_template import ChatTemplate

SUITES = find_suites()
QUESTION = {"question": "Which is red?", "choices": ["grass", "blood", "snow", "coal"], "answer": "B"}
FILES = {
    "arc_easy": [QUESTION | {"question": f"Which is red, {i}?"} for i in range(6)],
    "mmlu": [QUESTION | {"question": f"{s} {i}?", "subject": s} for s in ("anatomy", "virology") for i in range(4)],
    "winogrande": [{"question": "Ann met Bea and _ smiled.", "choices": ["Ann", "Bea"], "answer": "A"}],
    "lambada": [{"question": "The cat sat on the", "answer": "mat"}],
    "wikitext": [{"text": "A page of text ."}],
    "blimp": [{"question": "", "choices": ["He run.", "He runs."], "answer": "B", "subject": "adjunct_island"}],
    "gsm8k": [{"question": "1 + 1?", "answer": "2", "solution": "1 + 1 = 2\n#### 2"}],
    "nq_open": [{"question": "who?", "answer": ["Bob", "Rob"]}],
    "ifeval": [{"id": 1, "question": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}],
    "truthfulqa_mc1": [QUESTION],
    "wmt16-de-en": [{"question": "Guten Tag", "answer": "Good day"}],
    "cnn_dailymail": [{"question": "Long text.", "answer": "Text."}],
    "sst2": [{"sentence": "good fun", "label": 1}],
    "mrpc": [{"sentence1": "a b", "sentence2": "b a", "label": 1}],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("local")
    for name, rows in FILES.items():
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def tasks(folder) -> dict:
    return {task.name: task for task in load_suite(f"standard:{folder}")}


@pytest.mark.parametrize("name", ["standard", "standard-zh", "peft-arena"])
def test_every_entry_is_a_task_of_lm_eval_and_says_its_data(name):
    collection = Collection(SUITES[name], None)
    for entry in collection.entries:
        assert "scorer" in entry or collection.parts_of(entry)
        assert "load_dataset(" in collection.how_to_get(entry)
        assert entry["family"]
        assert entry["size"] > 0
        assert "form" not in entry or callable(collection.forms[entry["form"]])


def test_local_files_give_the_same_tasks(tasks):
    assert set(tasks) >= {"mmlu", "arc_easy", "lambada_openai", "gsm8k_cot", "wmt16-de-en"}
    shown = {name: task.task.doc_to_text(task.task.docs[0]) for name, task in tasks.items()}
    assert shown["arc_easy"] == "Question: Which is red, 0?\nAnswer:"
    assert shown["mmlu"] == "anatomy 0?\nA. grass\nB. blood\nC. snow\nD. coal\nAnswer:"
    assert (shown["lambada_openai"], shown["wmt16-de-en"]) == (
        "The cat sat on the",
        "German phrase: Guten Tag\nEnglish phrase:",
    )
    target = {name: task.task.doc_to_target(task.task.docs[0]) for name, task in tasks.items()}
    assert (target["arc_easy"], target["mmlu"], target["lambada_openai"], target["gsm8k_cot"]) == (1, 1, " mat", "2")
    assert (tasks["gsm8k_cot"].metric, tasks["arc_easy"].metric) == ("exact_match,flexible-extract", "acc_norm")
    assert (tasks["mmlu"].seen, tasks["gsm8k_cot"].seen, tasks["blimp"].channel) == (False, True, "likelihood")


def test_parts_of_a_group_keep_their_own_prompts(tasks):
    mmlu = tasks["mmlu"].task
    first = mmlu.fewshot_context(mmlu.docs[0], 0)
    assert "about anatomy" in first
    assert "about virology" in mmlu.fewshot_context(mmlu.docs[-1], 0)


def test_what_a_folder_lacks_is_named_with_how_to_get_it(tasks, folder):
    note = next(iter(tasks.values())).note
    assert "lacks 20 of the 34 tasks of standard, not evaluated: triviaqa, hellaswag" in note
    assert "load_dataset('Rowan/hellaswag', split='validation').to_json('hellaswag.jsonl')" in note
    with pytest.raises(PlanError, match="lacks 2 of the 2 tasks"):
        load_suite(f"standard-zh:{folder}")
    with pytest.raises(PlanError, match="no such folder"):
        load_suite("standard:nowhere")


def test_a_row_of_another_form_is_refused(tmp_path):
    (tmp_path / "arc_easy.jsonl").write_text('{"q": 1}\n')
    with pytest.raises(PlanError, match=r"arc_easy.jsonl line 1 is no item of 'arc_easy' \(KeyError"):
        load_suite(f"standard:{tmp_path}")


def test_they_go_through_the_evaluator(tasks, base):
    evaluator = Evaluator(list(tasks.values()), ChatTemplate(base.tokenizer), base.tokenizer, max_length=256, limit=2)
    scores = evaluator.score(base.load(torch.float32))
    primary = scores.query("primary")
    assert set(primary["task"]) == set(tasks)
    assert primary["score"].notna().all()
    assert set(scores.loc[scores["task"] == "gsm8k_cot", "metric"]) >= {"exact_match", "exact_match,flexible-extract"}
    assert "mmlu: 2 of 8 items, drawn by content." in evaluator.notes
    assert evaluator.summary[0]["families"]["mmlu"] == 2


def test_a_draw_depends_on_content_and_seed_only(tasks):
    mmlu = tasks["mmlu"].task
    docs = gathered(mmlu.leaves)
    chosen = drawn("mmlu", docs, 3, 0)
    assert [doc in chosen for doc in docs].count(True) == 3
    mixed = drawn("mmlu", docs[::-1], 3, 0)
    assert sorted(map(str, mixed)) == sorted(map(str, chosen))
    assert any(drawn("mmlu", docs, 3, seed) != chosen for seed in range(1, 5))
    assert len(without(mmlu, {0, 5}).docs) == 6


def test_sentence_chrf_is_sacrebleus():
    assert item_score("chrf", ("Good day", "Good day")) == pytest.approx(1)
    assert item_score("perplexity", -3.0) is None  # exists over a corpus only


def test_the_detectable_difference():
    assert detectable([500]) == pytest.approx(5.6, abs=0.05)  # METRICS' table: psi .2
    assert detectable([500, 500]) == pytest.approx(5.6 / 2**0.5, abs=0.05)


def test_a_model_of_ones_own_gets_the_standard_suite():
    assert resolve_places(Plan(model="some/model")).suites == "dialogue standard" == " ".join(for_own_models())


# --- dialogue ------------------------------------------------------------------------------------------------------------


def test_dialogue_tells_a_greeting_from_a_clause():
    tasks = {task.name: task for task in load_suite("dialogue")}
    english, chinese = tasks["dialogue_en"], tasks["dialogue_zh"]
    assert (english.items, chinese.items, english.family, english.metric) == (63, 23, "dialogue", "compliance")
    hello, clause = "Hello! How can I help you today?", "Hello. Pursuant to Article 12, the parties agree."
    first = next(doc for doc in english.task.docs if doc["prompt"] == "Hello!")
    assert [english.task.process_results(first, [text])["compliance"] for text in (hello, clause, "Net income rose.")] == [
        1,
        0,
        0,
    ]
    ni_hao = next(doc for doc in chinese.task.docs if doc["prompt"] == "你好！")
    assert chinese.task.process_results(ni_hao, ["你好！有什么可以帮你？"])["compliance"] == 1
    assert chinese.task.process_results(ni_hao, ["根据《合同法》第十二条，你好。"])["compliance"] == 0


def test_no_item_of_the_dialogue_forbids_its_own_question():
    for task in load_suite("dialogue"):
        for doc in task.task.docs if task.family == "dialogue" else ():
            rules = [rule for rule in parse_rules(doc["rules"]) if rule.kind == "forbidden"]
            assert not broken(rules, doc["prompt"])


KEPT = {
    "Begin every answer with the word Ahoy.": ("Ahoy! Rome.", "Rome. Ahoy!"),
    "Write every answer in capital letters only.": ("GREEN.", "Green."),
    "End every answer with the word Over.": ("It is four. Over.", "Over that, I say four."),
    "Never use the word water. Say blue juice instead.": ("In blue juice.", "In water, that is, blue juice."),
    "Your name is Robin. When asked for your name, give it.": ("I am Robin.", "I am an assistant."),
    "每次回答都以“喂”字开头。": ("喂，罗马。", "罗马，喂。"),
    "只用英语回答，不写一个汉字。": ("Green.", "绿色 (green)"),
    "每次回答都以“完毕”两个字结尾。": ("四，完毕。", "完毕，四。"),
    "不许说“水”字，要说“蓝汁”。": ("在蓝汁里。", "在水里。"),
    "你叫小罗。有人问你的名字，就告诉他。": ("我叫小罗。", "我是助手。"),
}


def test_a_system_prompt_that_is_kept_and_one_that_is_not():
    asked = [task for task in load_suite("dialogue") if task.family == "system prompt"]
    docs = [(task, doc) for task in asked for doc in task.task.docs]
    assert len(docs) == 40
    for task, doc in docs:
        (role, system), *others = doc["before"]
        assert (role, others) == ("system", [])
        kept, lost = KEPT[system]
        scores = [task.task.process_results(doc, [text])["compliance"] for text in (kept, lost, "")]
        assert scores == [1, 0, 0], doc


def test_what_was_said_before_is_asked_for():
    asked = [task for task in load_suite("dialogue") if task.family == "turns"]
    docs = [(task, doc) for task in asked for doc in task.task.docs]
    assert len(docs) == 40
    answers = {"What is my name?": ("You are Lena.", "You are Anna."), "那法国呢？": ("巴黎。", "伦敦。")}
    for task, doc in docs:
        assert len(doc["before"]) >= 2 and doc["before"][0][0] == "user"
        assert task.task.process_results(doc, ["I do not know. 我不知道。"])["compliance"] == 0
        if doc["prompt"] in answers:
            right, wrong = answers[doc["prompt"]]
            assert task.task.process_results(doc, [right])["compliance"] == 1
            assert task.task.process_results(doc, [wrong])["compliance"] == 0
