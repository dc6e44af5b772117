"""The fields of data files: one table of names, what each means, and whether it is read or refused. No torch here.

DATA, TEST and SUITES share it, and `make docs` writes docs/formats.md's list from it. A field that is not in the table is
not read; each file's unread fields are counted and named once (harness/files/row.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Any

from harness.fields.names import plain
from harness.fields.values import CONTENT_NAMES, ROLE_NAMES, given, judges, lists, omits, says, switches, tells, weighs


class Place(StrEnum):
    """Where a field stands."""

    RECORD = "record"
    TURN = "turn"
    ITEM = "item"


@dataclass(frozen=True)
class Field:
    """One meaning, under all the names that files give it."""

    place: Place
    names: tuple[str, ...]
    meaning: str
    """What it is, where it is read; what is wrong and the cure, where it is refused."""
    refused: Callable[[Any], bool] | None = None
    """Which values are refused; None: the field is read."""
    instead: str = ""
    """The field that should have been used: refused only in forms that read that one."""
    like: re.Pattern[str] | None = None
    """More names of the same meaning, as `plain` spells them."""

    def refuses(self, value: Any) -> bool:
        """Return whether this value of the field is refused."""
        return self.refused is not None and self.refused(value)

    def is_called(self, name: str) -> bool:
        """Return whether a refused field goes by this name, however it is spelt: `isCorrect` is `is_correct`."""
        spelt = plain(name)
        return spelt in map(plain, self.names) or bool(self.like and self.like.fullmatch(spelt))


R, T, I = Place.RECORD, Place.TURN, Place.ITEM  # noqa: E741
CHATS = ("messages", "conversations")
SYSTEMS = ("system", "system_prompt", "system_message", "system_instruction", "sys_prompt")
HISTORIES = ("history", "conversation_history", "chat_history")
CHOICES = ("choices", "options")
ANSWERS = ("answer", "answer_idx", "answer_index", "answerKey", "answer_key")
ACCEPTED = "answers"
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
ASKED = ("instruction", "question", "prompt", "query", "input", "context")
"""Fields that say what is asked, each in some forms."""
SUPERVISED = ("weight", "train", "training", "trainable", "supervised", "loss", "loss_weight", "loss_mask")
PREFERENCES = (
    *("chosen", "chosen_response", "chosen_answer", "chosen_output", "preferred", "preferred_output", "winner", "better"),
    *("rejected", "rejected_response", "rejected_responses", "rejected_answer", "rejected_output", "non_preferred_output"),
    *("loser", "worse", "kto_tag"),
)
JUDGEMENTS = (
    *("label", "is_correct", "is_right", "correct", "correctness", "desirable", "incorrect", "is_incorrect"),
    *("wrong", "is_wrong", "good", "is_good", "bad", "is_bad", "accepted", "is_accepted", "approved"),
    *("is_preferred", "is_chosen", "is_rejected", "thumbs_up", "thumbs_down", "liked", "upvoted", "downvoted"),
    *("helpful", "is_helpful", "preference", "feedback", "judgement", "judgment", "verdict", "vote"),
)
OTHER_CHOICES = (
    *("candidates", "alternatives", "endings", "answer_choices", "answer_options", "possible_answers", "multiple_choice"),
    *("distractors", "wrong_answers", "wrong_choices", "incorrect_options"),
)
PASSAGES = (
    *("passage", "paragraph", "article", "story", "document", "documents", "contexts", "background", "abstract", "excerpt"),
    *("evidence", "premise", "ctx", "table", "tables", "pre_text", "post_text"),
)
MEDIA = ("image", "images", "audio", "audios", "video", "videos")
MEDIA_REFUSED = "is not text, and models of text alone are trained here; leave such records out"
NOT_TEXT = re.compile(r"(image|img|photo|audio|video|pixel|speech)s?(_?(path|file|file_name|url|id|value|byte)s?)?")
TRAINS = re.compile(r"(.*_)?(train|trained|trains|learn|learned|learnable|loss|supervised|gradient|grad|weight)(_.*)?")
"""Names of switches for what is trained."""
OMITS = re.compile(r"(.*_)?(mask|masked|ignore|ignored|skip|skipped|exclude|excluded)(_.*)?")
"""Names of switches for what is left out of training."""
SWITCH = "looks like a switch for what is trained, under a name that is not read; write `weight` 0 or 1 on turns, or drop it"
PREFERS = re.compile(
    r"(chosen|rejected|preferred|dispreferred|winning|losing|better|worse|best|worst|good|bad|negative|positive)_"
    r"(response|answer|output|completion|reply|message|conversation)s?"
)
"""Names of answers that are preferred to others, or are not."""
SEVERAL = re.compile(r"(response|answer|output|completion|reply|candidate|generation)_?([a-d]|\d)")
"""Names of several answers to one question."""
KINDS = ("kind", "type", "category", "subject")
CLUSTERS = ("cluster", "subject", "phenomenon")
RULES = ("required", "forbidden", "schema", "bounds")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

TABLE = (
    Field(R, CHATS, "the turns of a chat: a list of objects with `role` and `content`, or `from` and `value`"),
    Field(R, ("instruction",), "the task; trained with `output` or `response`"),
    Field(
        R,
        ("input", "context"),
        "what the task or question is about: stands on a line below it; `nan` and `<noinput>` are nothing",
    ),
    Field(R, ("prompt", "query"), "what the user says; trained with `completion` or `response`"),
    Field(R, ("question",), "what is asked; with `answer` or `response`, or with `choices` and `answer`"),
    Field(R, ("output", "completion", "response"), "the answer that is trained"),
    Field(R, ("text",), "plain text, for continued pre-training; as a suite's item only where nothing else stands beside it"),
    Field(
        R,
        CHOICES,
        'the options of a multiple-choice question: a list of texts, {"A": text, ...}, {"text": [...], "label": [...]}'
        ' or [{"key": "A", "value": text}, ...]',
    ),
    Field(R, tuple("ABCDE"), "the options, one a column, beside `question`"),
    Field(
        R,
        ANSWERS,
        "the answer; beside options a letter (`B`, `(B)`, `B.`), an index from 0, a key or an option's text; two that disagree"
        " are refused",
    ),
    Field(
        R,
        (ACCEPTED,),
        'the accepted answers, as SQuAD has them: a list of texts or {"text": [...]}; a record that is trained has one',
    ),
    Field(R, SYSTEMS, "the record's system prompt; one word alone is none, and refused"),
    Field(R, HISTORIES, "earlier turns, [[question, answer], ...] or a list of messages; their answers are trained too"),
    Field(R, THOUGHTS, "the thoughts before the answer: written as <think> in front of it"),
    Field(R, KINDS, "what the record's kind is called: test records of one kind are one task"),
    Field(R, ("id",), "a name of your own"),
    Field(
        R,
        PREFERENCES,
        "is preference data, and only one right answer a record is trained here; write a file of the chosen answers alone",
        given,
        like=PREFERS,
    ),
    Field(
        R,
        ("answer_1", "answer_2", "response_a", "response_b"),
        "is one of several answers to one question, and one is trained; keep the right one, under the name that is read",
        says,
        like=SEVERAL,
    ),
    Field(
        R,
        JUDGEMENTS,
        "says whether an answer is good or bad (preference data, as for KTO), and all answers are trained here as right ones;"
        " keep the records with a good answer and drop the field (drop it too where it is no judgement)",
        judges,
    ),
    Field(
        R,
        OTHER_CHOICES,
        "are options to choose from under a name that is not read; write all of them as `choices`",
        lists,
        "choices",
    ),
    Field(
        R,
        PASSAGES,
        "is read with the question, under a name that is not read; call it `context` (or drop it, where it is not asked about)",
        tells,
        "context",
    ),
    Field(
        R,
        (*SUPERVISED, "mask", "sample_weight"),
        "weighs a whole record, and all records are trained alike here; drop the records of weight 0 and the field",
        weighs,
    ),
    Field(R, ("train_on_inputs", "learnable"), SWITCH, switches, like=TRAINS),
    Field(R, ("mask_history", "skip", "ignore"), SWITCH, omits, like=OMITS),
    Field(
        R,
        MEDIA,
        MEDIA_REFUSED,
        given,
        like=NOT_TEXT,
    ),
    Field(
        R,
        ("tools", "functions", "tool_calls", "function_call"),
        "are tools, which are not rendered here: a record would be trained without what it calls; leave such records out",
        given,
    ),
    Field(T, ROLE_NAMES, "who speaks: system, user or assistant, under any of their usual names"),
    Field(T, CONTENT_NAMES, "what is said: a text, or a list of parts of type text"),
    Field(T, THOUGHTS, "an assistant's thoughts: written as <think> in front of its answer"),
    Field(T, SUPERVISED, "0 or false: the assistant's turn is read but not trained; 1 or true: trained, as by default"),
    Field(
        T,
        ("mask", "train_detail", "training_detail"),
        "is used in opposite ways by different tools; write `weight` 0 on turns that are not to be trained",
        given,
    ),
    Field(T, ("calculate_loss", "learn"), SWITCH, switches, like=TRAINS),
    Field(T, ("masked", "ignore", "skip"), SWITCH, omits, like=OMITS),
    Field(
        T,
        MEDIA,
        MEDIA_REFUSED,
        given,
        like=NOT_TEXT,
    ),
    Field(
        T,
        ("tool_calls", "function_call", "tool_call_id", "tools", "functions"),
        "is a tool's call, which is not rendered here: the turn would be trained without it; leave such records out",
        given,
    ),
    Field(I, ("type",), "how the item is scored (docs/suites.md)"),
    Field(I, ("tolerance", "unit"), "of numeric answers; a unit is a known one, or stands in the question or an answer"),
    Field(I, ("rewrites",), "the question in other words"),
    Field(I, ("fill",), "of long prompts: tokens of the sidecar's filler text before the question, and facts that stand in it"),
    Field(I, ("chance",), "the score of a guess, from 0 to below 1"),
    Field(I, ("solution",), "how the answer is found: given in few-shot examples"),
    Field(
        I,
        (
            *("metric", "metrics", "scoring", "scorer", "match", "match_type", "regex", "pattern", "units"),
            *("stop", "until", "stop_sequences", "few_shot", "fewshot", "shots", "tests", "test_cases", "unit_tests"),
        ),
        "changes how an item is asked or scored, and is not read in a row; say it with `type` or in the sidecar, or drop it",
        given,
    ),
    Field(I, RULES, "rules that the output must keep"),
    Field(I, ("instruction_id_list", "kwargs"), "IFEval's instructions and their settings"),
    Field(I, CLUSTERS, "items of one cluster resample together"),
)
"""Every field that is read or refused."""

KNOWN = frozenset(chain.from_iterable(field.names for field in TABLE))
"""What a column must be called to be converted from parquet."""


def names_read(place: Place) -> list[str]:
    """Return all names of the fields that are read there."""
    names: list[str] = []
    for field in TABLE:
        if field.place is place and not field.refused:
            names += field.names
    return names
