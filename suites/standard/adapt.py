"""Rows of local JSONL files, {question, choices, answer, ...}, in the columns of the data sets that lm-eval's tasks read.

A row that has these columns already, as a data set written out has, is left as it is.
"""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _index(row):
    """The right choice, given as a letter or an index."""
    answer = row["answer"]
    return answer if isinstance(answer, int) else LETTERS.index(answer)


def _asked(row):
    return row["question"] + ("\n" + row["context"] if row.get("context") else "")


def arc(row):
    if "answerKey" in row:
        return row
    labels = list(LETTERS[: len(row["choices"])])
    return {"question": _asked(row), "choices": {"text": row["choices"], "label": labels}, "answerKey": labels[_index(row)]}


def mmlu(row):
    return {"question": row["question"], "choices": row["choices"], "answer": _index(row), "subject": row["subject"]}


def ceval(row):
    if "A" in row:
        return row
    options = dict(zip("ABCD", row["choices"], strict=True))
    return {"question": row["question"], **options, "answer": LETTERS[_index(row)], "subject": row["subject"]}


def cmmlu(row):
    if "Question" in row:
        return row
    options = dict(zip("ABCD", row["choices"], strict=True))
    return {"Question": row["question"], **options, "Answer": LETTERS[_index(row)], "subject": row["subject"]}


def winogrande(row):
    if "sentence" in row:
        return row
    one, two = row["choices"]
    return {"sentence": row["question"], "option1": one, "option2": two, "answer": str(_index(row) + 1)}


def piqa(row):
    if "goal" in row:
        return row
    one, two = row["choices"]
    return {"goal": row["question"], "sol1": one, "sol2": two, "label": _index(row)}


def lambada(row):
    return row if "text" in row else {"text": f"{row['question']} {row['answer']}"}


def wikitext(row):
    return row if "page" in row else {"page": row["text"]}


def blimp(row):
    if "sentence_good" in row:
        return row | {"subject": row.get("subject") or row["UID"]}
    right = _index(row)
    return {"sentence_good": row["choices"][right], "sentence_bad": row["choices"][1 - right], "subject": row["subject"]}


def gsm8k(row):
    solved = row.get("solution") or row["answer"]
    return {"question": row["question"], "answer": solved if "####" in solved else f"{solved}\n#### {row['answer']}"}


def nq_open(row):
    answers = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
    return {"question": row["question"].rstrip("?"), "answer": answers}


def triviaqa(row):
    if isinstance(row["answer"], dict):
        return row
    answers = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
    return {"question": row["question"].rstrip("?"), "answer": {"aliases": answers}}


def truthfulqa(row):
    if "mc1_targets" in row:
        return row
    right = _index(row)
    choices = [row["choices"][right], *(c for i, c in enumerate(row["choices"]) if i != right)]
    return {"question": row["question"], "mc1_targets": {"choices": choices, "labels": [1] + [0] * (len(choices) - 1)}}


def ifeval(row):
    if "prompt" in row:
        return row
    asked = {"key": str(row["id"]), "prompt": row["question"]}
    return asked | {name: row[name] for name in ("instruction_id_list", "kwargs")}


def summary(row):
    return row if "article" in row else {"article": row.get("context") or row["question"], "highlights": row["answer"]}


def german(row):
    return row if "translation" in row else {"translation": {"de": row["question"], "en": row["answer"]}}
