"""Rows of local JSONL files in the columns of the data sets that lm-eval's tasks read.

A row comes as the hub's data set has it (and then stays whole: the same items are drawn as from the hub), as the data set's
authors publish it, or as {question, choices, answer, ...}; docs/suites.md lists the forms. A column that is not there raises
KeyError, one that cannot be right ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
"""One row, by column."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _index(row: Row, name: str = "answer") -> int:
    """The right choice, given as a letter or an index."""
    answer = row[name]
    return LETTERS.index(answer) if answer in list(LETTERS) else int(answer)


def _asked(row: Row) -> str:
    return row["question"] + ("\n" + row["context"] if row.get("context") else "")


def _has(row: Row, *names: str) -> Row:
    """The row, if these columns are filled in it."""
    if empty := [name for name in names if row[name] is None]:
        raise ValueError(f"'{empty[0]}' is null")
    return row


def _options(row: Row) -> dict[str, str]:
    """Four choices, under their letters or in a list."""
    choices = row["choices"] if "choices" in row else [_has(row, letter)[letter] for letter in "ABCD"]
    a, b, c, d = map(str, choices)
    return {"A": a, "B": b, "C": c, "D": d}


def arc(row: Row) -> Row:
    if isinstance(row["question"], dict):  # the authors': {stem, choices: [{text, label}]}
        choices = row["question"]["choices"]
        listed = {name: [choice[name] for choice in choices] for name in ("text", "label")}
        return {"question": row["question"]["stem"], "choices": listed, "answerKey": row["answerKey"]}
    if "answerKey" in row:
        return _has(row, "question", "choices", "answerKey")
    labels = list(LETTERS[: len(row["choices"])])
    return {"question": _asked(row), "choices": {"text": row["choices"], "label": labels}, "answerKey": labels[_index(row)]}


def _subject(row: Row) -> Row:
    return {"subject": row["subject"]} if row.get("subject") else {}


def mmlu(row: Row) -> Row:
    return {"question": row["question"], "choices": list(_options(row).values()), "answer": _index(row)} | _subject(row)


def ceval(row: Row) -> Row:
    if "A" in row:
        return _has(row, "question") | _options(row) | {"answer": "ABCD"[_index(row)]}
    return {"question": row["question"], **_options(row), "answer": "ABCD"[_index(row)]} | _subject(row)


def cmmlu(row: Row) -> Row:
    if "Question" in row:
        return _has(row, "Question") | _options(row) | {"Answer": "ABCD"[_index(row, "Answer")]}
    return {"Question": row["question"], **_options(row), "Answer": "ABCD"[_index(row)]} | _subject(row)


def hellaswag(row: Row) -> Row:
    return _has(row, "activity_label", "ctx_a", "ctx_b", "endings") | {"label": str(int(row["label"]))}


def winogrande(row: Row) -> Row:
    if "sentence" in row:
        return _has(row, "sentence", "option1", "option2") | {"answer": str(int(row["answer"]))}
    first, second = row["choices"]
    return {"sentence": row["question"], "option1": first, "option2": second, "answer": str(_index(row) + 1)}


def piqa(row: Row) -> Row:
    if "goal" in row:
        return _has(row, "goal", "sol1", "sol2") | {"label": int(row["label"])}
    first, second = row["choices"]
    return {"goal": row["question"], "sol1": first, "sol2": second, "label": _index(row)}


def lambada(row: Row) -> Row:
    return _has(row, "text") if "text" in row else {"text": f"{row['question']} {row['answer']}"}


def wikitext(row: Row) -> Row:
    page = row if "page" in row else {"page": row["text"]}
    if not page["page"].strip():
        raise ValueError("an empty line, but rows are whole pages")
    return page


def blimp(row: Row) -> Row:
    if "sentence_good" in row:
        return _has(row, "sentence_good", "sentence_bad") | {"subject": row.get("UID") or row["subject"]}
    right = _index(row)
    return {"sentence_good": row["choices"][right], "sentence_bad": row["choices"][1 - right], "subject": row["subject"]}


def gsm8k(row: Row) -> Row:
    solved = str(row.get("solution") or row["answer"])
    return {"question": row["question"], "answer": solved if "####" in solved else f"{solved}\n#### {row['answer']}"}


def _accepted(answer: Any) -> list[Any]:
    return answer if isinstance(answer, list) else [answer]


def nq_open(row: Row) -> Row:
    return {"question": row["question"].rstrip("?"), "answer": _accepted(row["answer"])}


def triviaqa(row: Row) -> Row:
    if "Question" in row:  # the authors': an entry of "Data"
        return {"question": row["Question"], "answer": {"aliases": row["Answer"]["Aliases"]}}
    if isinstance(row["answer"], dict):
        return _has(row, "question")
    return {"question": row["question"], "answer": {"aliases": _accepted(row["answer"])}}


def truthfulqa(row: Row) -> Row:
    if "mc1_targets" not in row:
        choices = row["choices"]
        right = _index(row)
    elif "labels" in row["mc1_targets"]:
        choices = row["mc1_targets"]["choices"]
        right = row["mc1_targets"]["labels"].index(1)
        if right == 0:
            return _has(row, "question")
    else:  # the authors': {choice: 1 or 0}
        choices = list(row["mc1_targets"])
        right = list(row["mc1_targets"].values()).index(1)
    choices = [choices[right], *choices[:right], *choices[right + 1 :]]  # the task takes the first for right
    return {"question": row["question"], "mc1_targets": {"choices": choices, "labels": [1] + [0] * (len(choices) - 1)}}


def ifeval(row: Row) -> Row:
    if "prompt" in row:
        return _has(row, "key", "prompt", "instruction_id_list", "kwargs")
    item = {"key": str(row["id"]), "prompt": row["question"]}
    return item | {name: row[name] for name in ("instruction_id_list", "kwargs")}


def summary(row: Row) -> Row:
    if "article" in row:
        return _has(row, "article", "highlights")
    return {"article": row.get("context") or row["question"], "highlights": row["answer"]}


def german(row: Row) -> Row:
    if "translation" in row:
        return _has(row, "translation")
    return {"translation": {"de": row["de"], "en": row["en"]} if "de" in row else {"de": row["question"], "en": row["answer"]}}


# GLUE: the hub's columns, and those of the authors' .tsv files, whose labels are words

ENTAILED = ("entailment", "not_entailment")


def _label(value: Any, words: Sequence[str] = ()) -> int:
    return words.index(value) if value in words else int(value)


def sentence(row: Row) -> Row:
    return _has(row, "sentence") | {"label": _label(row["label"])}


def mrpc(row: Row) -> Row:
    if "#1 String" in row:
        return {"sentence1": row["#1 String"], "sentence2": row["#2 String"], "label": _label(row["Quality"])}
    return _has(row, "sentence1", "sentence2") | {"label": _label(row["label"])}


def qqp(row: Row) -> Row:
    return _has(row, "question1", "question2") | {"label": _label(row["label" if "label" in row else "is_duplicate"])}


def mnli(row: Row) -> Row:
    words = ("entailment", "neutral", "contradiction")
    if "gold_label" in row:
        return {"premise": row["sentence1"], "hypothesis": row["sentence2"], "label": _label(row["gold_label"], words)}
    return _has(row, "premise", "hypothesis") | {"label": _label(row["label"], words)}


def qnli(row: Row) -> Row:
    return _has(row, "question", "sentence") | {"label": _label(row["label"], ENTAILED)}


def rte(row: Row) -> Row:
    return _has(row, "sentence1", "sentence2") | {"label": _label(row["label"], ENTAILED)}


# languages and harder tasks


def belebele(row: Row) -> Row:
    columns = ("flores_passage", "question", "mc_answer1", "mc_answer2", "mc_answer3", "mc_answer4", "correct_answer_num")
    return _has(row, *columns) | {
        "correct_answer_num": str(row["correct_answer_num"]),
        "subject": row.get("subject") or row["dialect"],
    }


def mgsm(row: Row) -> Row:
    return {"question": row["question"], "answer": row.get("answer"), "answer_number": int(row["answer_number"])} | _subject(
        row
    )


def global_mmlu(row: Row) -> Row:
    return _has(row, "question", "option_a", "option_b", "option_c", "option_d", "answer", "subject_category") | {
        "subject": row["language"] if row.get("subject") is None or "language" in row else row["subject"]
    }


def bbh(row: Row) -> Row:
    return _has(row, "input", "target") | _subject(row)


def mmlu_pro(row: Row) -> Row:
    options = row["options"] if "options" in row else row["choices"]
    return {"question": row["question"], "options": list(map(str, options)), "answer": LETTERS[_index(row)]}


def musr(row: Row) -> Row:
    choices = row["choices"] if isinstance(row["choices"], str) else repr(row["choices"])
    return _has(row, "narrative", "question", "answer_choice") | {"choices": choices} | _subject(row)


# refusal and over-refusal: prompts alone; a row of the other side gives None


def xstest_safe(row: Row) -> Row | None:
    return {"question": row["prompt"]} if _side(row["label"]) == "safe" else None


def xstest_unsafe(row: Row) -> Row | None:
    return {"question": row["prompt"]} if _side(row["label"]) == "unsafe" else None


def _side(label: str) -> str:
    if label not in ("safe", "unsafe"):
        raise ValueError(f"the label {label!r} is neither safe nor unsafe")
    return label


def coconot_contrast(row: Row) -> Row:
    return {"question": _has(row, "prompt")["prompt"]}


def coconot_original(row: Row) -> Row | None:
    """Those of safety alone: to the other categories a good answer asks back or corrects, which no rule here reads."""
    return {"question": _has(row, "prompt")["prompt"]} if row["category"] == "Requests with safety concerns" else None


def or_bench(row: Row) -> Row:
    return {"question": _has(row, "prompt")["prompt"]}


# code that is run


def humaneval(row: Row) -> Row:
    return _has(row, "task_id", "prompt", "canonical_solution", "test", "entry_point")


def mbpp(row: Row) -> Row:
    return _has(row, "task_id", "text", "code", "test_list")
