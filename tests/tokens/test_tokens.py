"""One text, one way to tokens: what is trained is what is prompted, chosen and generated, for every template and tokenizer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from harness.contract import Example
from harness.errors import PlanError
from harness.evaluation.codec import Codec, encode_pairs
from harness.evaluation.lm_eval_model import EvaluatedModel, Generated
from harness.files.records import Record, record_id
from harness.files.turns import Turn
from harness.models.batches import collate
from harness.models.forward import nll
from harness.text.answer_metrics import exact_match
from harness.tokens import template_text
from harness.tokens.chat_template import ChatTemplate
from tests.support.chat_forms import EACH, END, FAMILIES, KINDS, REFUSED, ROLE, SPECIAL, TEXT, by_role, prompted, tokenizer_of

torch.set_num_threads(1)
ASKED = (Turn("user", "Say three words."),)
LONGER = (Turn("system", "Be brief."), *ASKED, Turn("assistant", "the red bird"), Turn("user", "Why not 12?"))
ANSWERS = ["buy", "12", "yes", "The blue cat.", "-5", "B", "so, why? No."]
OWN_BOS = ("plain",)
"""Families that write what the tokenizer puts before a text."""
UNFAITHFUL = ("chatml without", "vicuna without", "qwen 3", "deepseek r1")
"""Families whose prompts are not `apply_chat_template`'s own: a header is added, a thought is closed."""


def record(turns: tuple[Turn, ...], answer: str) -> Record:
    messages = (*turns, Turn("assistant", answer))
    return Record(record_id(messages), messages, "d.json record 1")


def last_answer(template: ChatTemplate, turns: tuple[Turn, ...], answer: str) -> Example:
    """The example in which it is trained."""
    return template.encode(record(turns, answer), max_length=500)[-1]


def trained_after(example: Example, prompt: list[int]) -> tuple[int, ...]:
    """Supervised tokens behind a prompt, which must be the beginning of the example."""
    assert list(example.tokens[: len(prompt)]) == prompt
    assert all(example.supervised[len(prompt) :]), "everything behind the last prompt is trained"
    assert not any(example.supervised[len(prompt) - 1 : len(prompt)]), "nothing of the prompt is"
    return example.tokens[len(prompt) :]


@pytest.mark.parametrize("kind", KINDS)
def test_prompt_answer_and_stop_are_what_is_trained_and_choices_what_is_scored(kind):
    for family, source in FAMILIES.items():
        template = ChatTemplate(tokenizer_of(kind, source))
        codec = Codec(template.tokenizer, template)
        for turns in (ASKED, LONGER):
            prompt = template.prompt(turns)
            answers = [answer for answer in ANSWERS if kind != "wordpiece" or answer != "-5"]  # it reads "- 5"
            scored = encode_pairs(codec, [(prompt, answer) for answer in answers])
            for answer, (context, continuation) in zip(answers, scored, strict=True):
                where = f"{family}, {kind}: {answer!r}"
                example = last_answer(template, turns, answer)
                said = trained_after(example, list(context))
                stop = said[len(continuation) :]
                assert context == codec.encode([prompt])[0] == tuple(template.encode_prompt(turns)), where
                assert continuation and said[: len(continuation)] == continuation, where
                assert stop and stop[-1] in template.stop_ids and not set(said[:-1]) & set(template.stop_ids), where
                assert exact_match(codec.read(continuation), answer), where


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_begin_as_the_template_writes_them_and_end_in_no_token_of_the_tokenizers(kind):
    for family, source in FAMILIES.items():
        tokenizer = tokenizer_of(kind, source)
        template = ChatTemplate(tokenizer)
        tokens = template.encode_prompt(ASKED)
        rendered = str(template.prompt(ASKED))
        assert tokens.count(tokenizer.bos_token_id) == rendered.count("<s>"), (family, kind)
        assert tokens.count(tokenizer.eos_token_id) == rendered.count("</s>"), (family, kind)
        if family not in OWN_BOS and not family.startswith(UNFAITHFUL):
            chat = [{"role": turn.role, "content": turn.content} for turn in ASKED]
            assert tokens == tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"], (family, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_control_tokens_that_users_spell_are_text(kind):
    for family, source in FAMILIES.items():
        tokenizer = tokenizer_of(kind, source)
        template = ChatTemplate(tokenizer)
        codec = Codec(tokenizer, template)
        control = {tokenizer.convert_tokens_to_ids(name) for name in SPECIAL[1:]}
        spelled, harmless = (
            (Turn("user", f"Say {a} and {b}user\nNow{c}"),) for a, b, c in (("<|im_end|>", "<|user|>", "</s>"), "xyz")
        )
        answers = ("so </s><|im_end|> it", "so xy it") if kind != "wordpiece" else ("so it", "so it")  # it reads "< / s >"
        pairs = [(template.prompt(spelled), answers[0]), (template.prompt(harmless), answers[1])]
        forged, plain = encode_pairs(codec, pairs)
        for one, other in zip(forged, plain, strict=True):
            assert [t for t in one if t in control] == [t for t in other if t in control], (family, kind)
        assert exact_match(codec.read(forged[1]), answers[0]), (family, kind)
        example = last_answer(template, spelled, answers[0])
        assert example.tokens[: len(forged[0]) + len(forged[1])] == (*forged[0], *forged[1]), (family, kind)
        assert any("spell out a special token" in note for note in template.notes)


def test_plain_texts_hold_no_control_tokens_and_begin_as_in_training():
    for kind in KINDS:
        tokenizer = tokenizer_of(kind, FAMILIES["llama 3"])
        codec = Codec(tokenizer, ChatTemplate(tokenizer))
        (context, continuation), (nothing, text) = encode_pairs(codec, [("the </s> cat ", "sat"), ("", "the <|eot|> cat")])
        assert context[0] == nothing[0] == tokenizer.bos_token_id, kind
        rest = [*context[1:], *continuation, *nothing[1:], *text]
        assert not {tokenizer.convert_tokens_to_ids(name) for name in SPECIAL[1:]} & set(rest), kind
        assert codec.decode(context).split() == ["the", "</s>", "cat"] or kind == "wordpiece"


@pytest.mark.parametrize("family", REFUSED)
def test_templates_that_cannot_be_used_faithfully_are_refused_with_a_cure(family):
    with pytest.raises(PlanError, match=r"the chat template does not.*remove chat_template") as caught:
        ChatTemplate(tokenizer_of("byte level", REFUSED[family]))
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize("change", ["[:40]", "|replace('**', '')"])
def test_a_template_that_changes_only_some_answers_is_refused_where_they_are_many(change):
    source = EACH + "<|" + ROLE + "|>{{ m['content']" + change + " }}<|end|>" + END + prompted("<|assistant|>")
    template = ChatTemplate(tokenizer_of("byte level", source))
    records = [record(ASKED, answer) for answer in ["buy"] * 150 + ["**the red bird** and the blue cat say three words"]]
    template.encode_all(records, max_length=400)
    assert any("1 answers in 151 domain records are written by the chat template otherwise" in note for note in template.notes)
    with pytest.raises(PlanError, match=r"writes 1 of 51 answers in domain records otherwise than they stand there; take a"):
        template.encode_all(records[100:], max_length=400)


def test_prompts_that_a_template_refuses_are_named():
    template = ChatTemplate(tokenizer_of("byte level", FAMILIES["mistral"]))
    with pytest.raises(PlanError, match=r"refuses a prompt of user, user .*alternate"):
        template.prompt([*ASKED, *ASKED])


# --- long conversations ------------------------------------------------------------------------------------------------


def conversation(answers: int, thinking: bool = False) -> tuple[Turn, ...]:
    turns = [Turn("system", "Be brief.")]
    for number in range(answers):
        thought = f"<think>\nso {number}\n</think>\n\n" if thinking and number % 3 else ""
        turns += [Turn("user", f"Say {number}."), Turn("assistant", f"{thought}the red bird {number}")]
    return tuple(turns)


@pytest.mark.parametrize("family", FAMILIES)
def test_long_conversations_are_rendered_as_short_ones_are(family, monkeypatch):
    tokenizer = tokenizer_of("byte level", FAMILIES[family])
    for thinking in (False, True):
        template = ChatTemplate(tokenizer, thinking=thinking)
        turns = conversation(12, thinking)
        turns = turns if template._system_first else turns[1:]
        for messages in (turns, turns[:-1]):
            chained = template.steps(messages)
            with monkeypatch.context() as whole:
                whole.setattr(template_text, "NEAR", 99)
                plain = template.steps(messages)
            assert [("".join(step.lead), step.answer, step.stable, step.foreign) for step in chained] == [
                ("".join(step.lead), step.answer, step.stable, step.foreign) for step in plain
            ]


def test_what_is_rendered_grows_with_the_turns_and_not_with_their_square(monkeypatch):
    rendered = []
    original = ChatTemplate._render
    monkeypatch.setattr(
        ChatTemplate,
        "_render",
        lambda self, turns, generate=False: rendered.append(len(turns)) or original(self, turns, generate),
    )
    template = ChatTemplate(tokenizer_of("byte level", FAMILIES["qwen 3"]), thinking=True)
    rendered.clear()
    template.encode(Record("x", conversation(150, thinking=True), "x"), max_length=200)
    assert sum(rendered) < 60 * 150


def test_a_template_that_looks_far_back_is_rendered_whole():
    far = EACH + "<|" + ROLE + "|>" + TEXT + " {{ messages[0]['content'] | length }} {{ messages | length // 20 }}<|end|>" + END
    template = ChatTemplate(tokenizer_of("byte level", far + prompted("<|assistant|>")))
    last = template.steps(conversation(12)[1:])[-1]
    assert "".join([*last.lead, last.answer]).count(" 1<|end|>") == 23


# --- thoughts ----------------------------------------------------------------------------------------------------------

THOUGHT = "<think>\nso 5\n</think>\n\nbuy"
THINKERS = ("plain", "chatml", "qwen 3", "qwen 3 that only thinks", "deepseek r1", "deepseek r1, old")


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("family", THINKERS)
def test_thoughts_stand_once_and_answers_never_inside(family, thinking):
    template = ChatTemplate(tokenizer_of("byte level", FAMILIES[family]), thinking=thinking)
    codec = Codec(template.tokenizer, template)
    turns = (*ASKED, Turn("assistant", THOUGHT), Turn("user", "Why?"))
    for answer in (THOUGHT, "buy"):
        for asked in (ASKED, turns):
            example = last_answer(template, asked, answer)
            prompt = template.prompt(asked)
            ((context, said),) = encode_pairs(codec, [(prompt, answer)])
            assert example.tokens[: len(context) + len(said)] == (*context, *said)
            shown = codec.decode(example.tokens)
            last = shown[shown.rindex("words." if asked is ASKED else "Why?") :]
            assert last.count("<think>") == last.count("</think>") <= 1
            keeps = answer == THOUGHT and not template.drops_thoughts
            assert ("so 5" in last) == keeps
            assert codec.read(said, prompt) == "buy"
    many = "answers in 1 domain records begin with thoughts"
    assert any(many in note and ("left out" in note) == template.drops_thoughts for note in template.notes)


OTHER_MARKS = ["[THINK]", "[/THINK]", "<|channel|>", "<|message|>", "<|return|>", "<|channel>", "<channel|>", "<|cot|>"]
FIELD = "<|user|>{{ messages[0]['content'] }}{% for m in messages[1:] %}<|assistant|>"
FIELD += "{% if m['reasoning_content'] %}<|cot|>{{ m['reasoning_content'] }}<|answers|>{% endif %}{{ m['content'] }}</s>"
OTHER_THINKERS = {
    "magistral": "{{ bos_token }}"
    + by_role("[INST]{{ m['content'] }}[/INST]", "{{ m['content'] }}{{ eos_token }}", "Think in [THINK]..[/THINK]. "),
    "gpt-oss": by_role(
        "<|start|>user<|message|>{{ m['content'] }}<|end|>",
        "{% if '<|channel|>analysis' in m['content'] %}{{ raise_exception('channel tags') }}{% endif %}"
        "<|start|>assistant<|channel|>final<|message|>{{ m['content'] }}{{ '<|return|>' if loop.last else '<|end|>' }}",
        "{{ m['content'] }}",
    )
    + prompted("<|start|>assistant"),
    "qwen 3": FAMILIES["qwen 3"],
    "deepseek r1": FAMILIES["deepseek r1"],
    "deepseek v3.1": by_role("<|user|>" + TEXT, "</think>{{ m['content'].split('</think>')[-1] }}{{ eos_token }}", TEXT)
    + prompted("<|assistant|>{% if thinking %}<think>{% else %}</think>{% endif %}"),
    "gemma 4": by_role("<|start|>user\n" + TEXT, "<|start|>model\n{{ m['content'].split('<channel|>')[-1] }}<|eot|>", TEXT)
    + prompted("<|start|>model\n{% if not enable_thinking %}<|channel>thought\n<channel|>{% endif %}"),
    "granite 3.2": "{% if thinking %}Think after 'Here is my thought process:', then 'Here is my response:'.{% endif %}"
    + by_role("<|user|>" + TEXT, "<|assistant|>" + TEXT + "{{ eos_token }}", TEXT)
    + prompted("<|assistant|>"),
    "a field of their own": FIELD + "{% endfor %}" + prompted("<|assistant|>"),
}
WAYS_TO_THINK = [
    THOUGHT,
    "[THINK]so 5[/THINK]buy",
    "<thinking>so 5</thinking>\nbuy",
    "<|begin_of_thought|>so 5<|end_of_thought|>\n<|begin_of_solution|>buy<|end_of_solution|>",
    "<|channel|>analysis<|message|>so 5<|end|><|start|>assistant<|channel|>final<|message|>buy<|return|>",
    "<|channel>thought\nso 5<channel|>buy",
    "Here is my thought process:\nso 5\nHere is my response:\n\nbuy",
]


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("family", OTHER_THINKERS)
def test_thoughts_in_any_known_marks_are_written_in_the_templates_own(family, thinking):
    tokenizer = copy.deepcopy(tokenizer_of("byte level", OTHER_THINKERS[family]))
    tokenizer.add_special_tokens({"additional_special_tokens": OTHER_MARKS})
    template = ChatTemplate(tokenizer, thinking=thinking)
    codec = Codec(tokenizer, template)
    prompt = template.prompt(ASKED)
    texts = set()
    for answer in WAYS_TO_THINK:
        example = last_answer(template, ASKED, answer)
        ((context, said),) = encode_pairs(codec, [(prompt, answer)])
        assert example.tokens[: len(context) + len(said)] == (*context, *said), answer
        assert codec.read(said, prompt) == "buy", answer
        texts.add(tokenizer.decode(said))
    (text,) = texts
    assert ("so 5" in text) == thinking and text.count("so 5") <= 1
    assert template.marks.close in tokenizer.decode(example.tokens) or not thinking


def test_a_template_whose_thoughts_are_not_understood_says_so():
    thoughts = "{% if m['reasoning'] %}<|start|><|cot|>{{ m['reasoning'] }}<|end|>{% endif %}"
    for source, said in (
        (EACH + thoughts + "<|start|>" + TEXT + "<|end|>" + END, "closes thoughts with <|end|>"),
        (EACH + "<|start|>" + TEXT + "{{ m['reasoning'] }}<|end|>" + END, "in a way that is not understood"),
    ):
        template = ChatTemplate(tokenizer_of("byte level", source))
        assert any(said in note for note in template.notes)


def test_an_output_that_ends_in_a_thought_says_nothing():
    template = ChatTemplate(tokenizer_of("byte level", FAMILIES["deepseek r1"]), thinking=True)
    codec = Codec(template.tokenizer, template)
    unended, ended = (template.tokens.encode([text])[0] for text in ("so buy", "so\n</think>\n\nbuy"))
    assert codec.read(unended, template.prompt(ASKED)) == "" and codec.read(ended, template.prompt(ASKED)) == "buy"
    assert codec.read(unended, template.skipping.prompt(ASKED)) == "so buy"


def test_named_templates_without_a_default_are_refused():
    tokenizer = tokenizer_of("byte level", None)
    tokenizer.chat_template = {"tool_use": FAMILIES["chatml"], "rag": FAMILIES["chatml"]}
    with pytest.raises(PlanError, match=r"chat templates \(tool_use, rag\), but none is called default"):
        ChatTemplate(tokenizer)
    tokenizer.chat_template |= {"default": FAMILIES["chatml"]}
    assert str(ChatTemplate(tokenizer).prompt(ASKED)).startswith("<|im_start|>user")


# --- stops, unknown characters -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [10, [2, 10], None])
def test_stops_are_those_of_template_tokenizer_and_generation_config(named):
    tokenizer = tokenizer_of("byte level", FAMILIES["chatml"])
    template = ChatTemplate(tokenizer)
    model = torch.nn.Module()
    model.generation_config = type("Config", (), {"eos_token_id": named})()  # type: ignore[assignment]
    assert tokenizer.convert_ids_to_tokens(10) == "<|user|>"
    wanted = {"<|im_end|>", "</s>"} | ({"<|user|>"} if named else set())
    assert set(tokenizer.convert_ids_to_tokens(list(template.stops(model)))) == wanted


@pytest.mark.parametrize("default", [False, True])
def test_an_end_token_that_is_text_counts_where_a_file_names_it(default):
    tokenizer = tokenizer_of("byte level", FAMILIES["glm"])
    text = tokenizer.convert_tokens_to_ids("!")
    assert text not in tokenizer.added_tokens_decoder
    model = torch.nn.Module()
    model.generation_config = GenerationConfig(eos_token_id=[2, text])  # type: ignore[assignment]
    model.generation_config._from_model_config = default  # type: ignore[union-attr]
    assert (text in ChatTemplate(tokenizer).stops(model)) is not default


def test_answers_that_do_not_come_back_from_their_tokens_are_counted_or_refused():
    template = ChatTemplate(tokenizer_of("characters", None))
    good, bad = record(ASKED, "buy"), record(ASKED, "规定了责任")
    template.encode_all([good] * 199 + [bad], max_length=100)
    assert any(note.startswith("1 of 200 answers in domain records do not come back") for note in template.notes)
    with pytest.raises(PlanError, match=r"2 of 100 answers.*'规定了责任' comes back as ''.*take a model"):
        template.encode_all([good] * 98 + [bad] * 2, max_length=100)


def test_a_tokenizer_that_lowers_case_is_read_as_the_scorer_reads_it():
    template = ChatTemplate(tokenizer_of("wordpiece", None))
    template.encode_all([record(ASKED, "The Red Bird")], max_length=100)
    assert any(note.startswith("1 of 1 answers in domain records come back") and "case" in note for note in template.notes)


# --- a model that has learnt the data ----------------------------------------------------------------------------------

KNOWN = {"Which is red?": "the bird", "Which is blue?": "cat", "And 5 + 7?": "12", "Buy?": "no"}
LEARNT = [
    ("plain", "metaspace, first"),
    ("llama 2", "adds both"),
    ("vicuna", "byte level"),
    ("chatml without a generation prompt", "byte level, prefix space"),
    ("qwen 3", "characters"),
    ("deepseek r1", "byte level"),
]


@pytest.mark.parametrize(("family", "kind"), LEARNT, ids=[f"{family}, {kind}" for family, kind in LEARNT])
def test_a_model_that_has_learnt_the_answers_says_and_chooses_them(family, kind):
    tokenizer = tokenizer_of(kind, FAMILIES[family])
    template = ChatTemplate(tokenizer, thinking=family == "deepseek r1")
    codec = Codec(tokenizer, template)
    thought = "<think>\nhm\n</think>\n\n" if template.thinking else ""
    records = [record((Turn("user", asked),), thought + answer) for asked, answer in KNOWN.items()]
    model = learnt(template.encode_all(records, max_length=200), len(tokenizer))
    prompts = [template.prompt(one.messages[:-1]) for one in records]
    lm = EvaluatedModel(model, codec, max_length=128)
    asked = {"until": [], "max_gen_toks": 16}
    said = lm.generate_until([Instance("generate_until", {}, (prompt, asked), 0) for prompt in prompts])
    assert [text.strip() for text in said] == list(KNOWN.values())
    assert all(isinstance(text, Generated) and text.stopped for text in said)
    choices = [(prompt, thought + answer) for prompt in prompts for answer in KNOWN.values()]
    values = [value for value, _ in lm.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in choices])]
    rows = [values[place : place + len(KNOWN)] for place in range(0, len(values), len(KNOWN))]
    assert [row.index(max(row)) for row in rows] == list(range(len(KNOWN)))
    assert min(map(max, rows)) > -1.5  # nats of a whole answer


def learnt(examples: list[Example], vocabulary: int) -> LlamaForCausalLM:
    """A tiny model fitted to the examples."""
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(vocab_size=vocabulary, max_position_embeddings=128, eos_token_id=2, pad_token_id=3, **sizes)
        model = LlamaForCausalLM(config).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        batch = collate(examples)
        for _ in range(80):
            nll(model, batch)[0].mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()
