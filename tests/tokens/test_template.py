"""ChatTemplate: training tokens begin as generation begins, and only answers and their stops are trained."""

from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from harness.contract import Example
from harness.errors import PlanError
from harness.files.records import Record, record_id
from harness.files.turns import Turn
from harness.tokens.chat_template import ChatTemplate
from tests.support.shared_data import real

REAL = real("models/stories260k", "models/babyllama-char105", "models/openstax-8m")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "<|start|>{{ m['role'] }}<|end|>\n\n{{ m['content'] | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)
QWEN3 = (
    "{% set n = messages | length %}{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last and '</think>' not in m['content'] %}"
    "<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] if loop.last else m['content'].split('</think>')[-1].lstrip('\n') }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
BARE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "mistral": MISTRAL, "qwen3": QWEN3, "bare": BARE, "plain": None}
SPECIAL = ["<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>", "<|start|>", "<|end|>", "<|eot|>"]
TEXT = ["the user asked why the assistant answered: because 1 + 2 = 3.\n\nYes. No. Be brief, system!"] * 20
CHAT = [("user", "why?"), ("assistant", "because"), ("user", "and then?"), ("assistant", "\nYes. No")]


def word_starts() -> tuple[Any, Any]:
    return pre_tokenizers.Metaspace(prepend_scheme="always"), decoders.Metaspace(prepend_scheme="always")


def byte_level() -> tuple[Any, Any]:
    return pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()


def build(split, eos: str | None = "</s>", pad: str | None = "<pad>") -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = split()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if split is byte_level else [chr(i) for i in (10, *range(33, 127))]
    special = [AddedToken(text, special=True, normalized=False) for text in SPECIAL]
    core.train_from_iterator(TEXT, trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, vocab_size=500))
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token=eos, pad_token=pad)


@pytest.fixture(scope="module", params=[byte_level, word_starts], ids=["bytes", "word-starts"])
def tokenizer(request) -> PreTrainedTokenizerFast:
    return build(request.param)


@pytest.fixture(scope="module")
def bytes_only() -> PreTrainedTokenizerFast:
    return build(byte_level)


def chat(tokenizer: PreTrainedTokenizerFast, name: str, **options) -> ChatTemplate:
    tokenizer.chat_template = TEMPLATES[name]
    return ChatTemplate(tokenizer, **options)


def record(*turns: tuple[str, str]) -> Record:
    messages = tuple(Turn(role, content) for role, content in turns or CHAT)
    return Record(record_id(messages), messages, "d.json record 1")


def segments(tokenizer, example: Example) -> list[str]:
    """The texts of the supervised stretches."""
    found, on = [], False
    for token, supervised in zip(example.tokens, example.supervised, strict=True):
        if supervised:
            found = [*found[:-1], [*found[-1], token]] if on else [*found, [token]]
        on = supervised
    return [tokenizer.decode(ids) for ids in found]


def whole(tokenizer, example: Example) -> str:
    return tokenizer.decode(list(example.tokens))


@pytest.mark.parametrize(("name", "stop"), [("chatml", "<|im_end|>"), ("llama3", "<|eot|>"), ("plain", "</s>")])
def test_answers_and_stops_are_supervised_and_nothing_else(bytes_only, name, stop):
    example = chat(bytes_only, name).encode(record(), max_length=200)[0]
    last = "Yes. No" if name == "llama3" else "\nYes. No"  # Llama 3 trims
    assert segments(bytes_only, example) == ["because" + stop, last + stop]
    assert bytes_only.convert_ids_to_tokens(example.tokens[-1]) == stop


@pytest.mark.parametrize("name", TEMPLATES)
def test_first_tokens_are_what_generation_sees(tokenizer, name):
    template = chat(tokenizer, name)
    example = template.encode(record(), max_length=200)[0]
    prompt = template.encode_prompt(record().messages[:1])
    assert list(example.tokens[: example.supervised.index(True)]) == prompt
    assert example.tokens.count(tokenizer.bos_token_id) == (name in ("llama3", "mistral"))


@pytest.mark.parametrize("name", ["chatml", "llama3", "mistral", "bare"])
def test_prompts_tokenise_as_transformers_does(tokenizer, name):
    template, messages = chat(tokenizer, name), [{"role": "user", "content": "why?"}]
    wanted = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True)["input_ids"]
    assert template.encode_prompt([Turn("user", "why?")]) == wanted
    assert template.prompt([Turn("user", "why?")]) == tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False
    )


@pytest.mark.parametrize("name", ["chatml", "llama3", "mistral"])
def test_tokens_decode_to_the_rendered_conversation(bytes_only, name):
    example = chat(bytes_only, name).encode(record(), max_length=200)[0]
    rendered = bytes_only.apply_chat_template([{"role": r, "content": c} for r, c in CHAT], tokenize=False)
    assert whole(bytes_only, example) == rendered.rstrip("\n")


def test_no_word_start_is_written_in_mid_text():
    spaced = build(word_starts)
    for name in ("bare", "mistral"):  # a prompt that ends in a space, an answer that begins with one
        example = chat(spaced, name).encode(record(("user", "why?"), ("assistant", "because")), max_length=99)[0]
        rendered = whole(spaced, example)
        assert ": because" in rendered or "[/INST] because" in rendered, rendered


def test_answers_never_merge_into_the_prompt(bytes_only):
    bytes_only.chat_template = LLAMA3.replace(" | trim", "")
    template = ChatTemplate(bytes_only)
    one, two = (template.encode(record(("user", "q"), ("assistant", a)), max_length=99)[0] for a in ("Yes", "\n\nYes"))
    start = one.supervised.index(True)
    assert one.tokens[:start] == two.tokens[:start] and two.supervised.index(True) == start


def test_plain_prompts_begin_as_the_tokenizer_begins_a_text():
    tokenizer = build(byte_level)
    begin = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.backend_tokenizer.post_processor = begin
    template = chat(tokenizer, "plain")
    assert template.encode_prompt([Turn("user", "why?")]) == tokenizer("why?\n\n")["input_ids"]
    assert chat(tokenizer, "chatml").encode_prompt([Turn("user", "why?")])[0] != tokenizer.bos_token_id


@pytest.mark.parametrize("path", REAL)
def test_plain_prompts_take_the_tokenizers_own_bos(path):
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.chat_template = None
    prompt = ChatTemplate(tokenizer).encode_prompt([Turn("system", "Be brief."), Turn("user", "why?")])
    assert prompt == tokenizer("Be brief.\n\nwhy?\n\n")["input_ids"]


def test_a_template_that_changes_earlier_turns_gives_an_example_an_answer(bytes_only):
    template = chat(bytes_only, "qwen3")
    one, two = template.encode_all([record(), record(*CHAT[:2])], max_length=200)[:2]
    assert [segments(bytes_only, e) for e in (one, two)] == [["because<|im_end|>"], ["\nYes. No<|im_end|>"]]
    assert "<think>" in whole(bytes_only, one) and whole(bytes_only, two).count("<think>") == 1
    assert "1 of 2 domain records are one example an answer (3 examples in all)" in " ".join(template.notes)
    for example, k in ((one, 1), (two, 3)):
        prompt = template.encode_prompt(record().messages[:k])
        assert list(example.tokens[: len(prompt)]) == prompt


def test_thoughts_are_trained_where_they_are_asked_for(bytes_only):
    thought = record(("user", "why?"), ("assistant", "<think>\nso\n</think>\n\nbecause"))
    on, off = chat(bytes_only, "qwen3", thinking=True), chat(bytes_only, "qwen3")
    assert segments(bytes_only, on.encode(thought, max_length=99)[0]) == [thought.messages[1].content + "<|im_end|>"]
    off.encode(thought, max_length=99)
    assert "thoughts: these are switched off" in off.notes[0] and "begin with thoughts: these are left out" in off.notes[1]


def test_a_template_without_system_puts_it_before_the_user(bytes_only):
    template = chat(bytes_only, "mistral")
    turns = [Turn("system", "Be brief."), Turn("user", "why?")]
    assert template.prompt(turns) == "<s>[INST] Be brief.\n\nwhy? [/INST]"
    assert any("takes no system message" in note for note in template.notes)


def test_system_messages_stay_where_they_are_accepted(bytes_only):
    template = chat(bytes_only, "chatml")
    assert template.prompt([Turn("system", "S"), Turn("user", "q")]).startswith("<|im_start|>system\nS<|im_end|>\n")
    assert template.notes == []


def test_records_the_template_refuses_are_named_together(bytes_only):
    bad = record(("user", "a"), ("user", "b"), ("assistant", "c"))
    with pytest.raises(PlanError) as caught:
        chat(bytes_only, "mistral").encode_all([bad, record(), bad], max_length=99)
    assert len(caught.value.faults) == 2 and "d.json record 1" in str(caught.value) and "alternate" in str(caught.value)


@pytest.mark.parametrize(("name", "stops"), [("chatml", ["<|im_end|>", "</s>"]), ("mistral", ["</s>"]), ("bare", ["</s>"])])
def test_stop_ids(bytes_only, name, stops):
    assert bytes_only.convert_ids_to_tokens(chat(bytes_only, name).stop_ids) == stops


def test_a_template_without_a_stop_gets_the_end_token_where_an_answer_is_trained_and_not_in_prompts(bytes_only):
    template = chat(bytes_only, "bare")
    one, two = template.encode(record(), max_length=200)
    assert segments(bytes_only, one) == ["because</s>"] and segments(bytes_only, two) == ["\nYes. No</s>"]
    assert whole(bytes_only, two).startswith("user: why?\nassistant: because\nuser: and then?\nassistant: ")
    assert any("</s> is added" in note for note in template.notes)


def test_end_and_padding_tokens(bytes_only):
    assert chat(bytes_only, "chatml").pad_id == SPECIAL.index("<pad>")
    padless = chat(build(byte_level, pad=None), "chatml")
    assert padless.pad_id == padless.eos_id and "</s> pads" in padless.notes[0]
    with pytest.raises(PlanError, match="eos_token is null"):
        ChatTemplate(build(byte_level, eos=None))


def test_todays_date_is_held_still(bytes_only):
    bytes_only.chat_template = "{{ strftime_now('%d %b %Y') }}\n" + CHATML
    template = ChatTemplate(bytes_only)
    assert template.prompt([Turn("user", "q")]).startswith("26 Jul 2024\n<|im_start|>")
    assert "today's date" in template.notes[0]


def test_long_answers_lose_their_end_and_stop(bytes_only):
    template = chat(bytes_only, "chatml")
    long = record(("user", "q"), ("assistant", "because " * 50))
    example, full = (template.encode(long, max_length=n)[0] for n in (40, 500))
    assert example.tokens == full.tokens[:40] and example.supervised == full.supervised[:40]
    assert not set(template.stop_ids) & {t for t, s in zip(example.tokens, example.supervised, strict=True) if s}
    lost = f"1 of 1 domain records were longer than 40 tokens: their ends were cut (at most {len(full) - 40} tokens lost)."
    assert template.notes == [lost]


def test_long_prompts_lose_their_beginning_but_not_bos(bytes_only):
    template = chat(bytes_only, "llama3")
    long = record(("user", "why " * 90), ("assistant", "because"))
    example, full = (template.encode(long, max_length=n)[0] for n in (40, 500))
    assert example.tokens == (full.tokens[0], *full.tokens[-39:])
    assert segments(bytes_only, example) == ["because<|eot|>"]
    assert template.notes[0].endswith(f"cut from the left (at most {len(full) - 40} lost).")


@pytest.mark.parametrize("room", range(8, 60, 3))
def test_no_example_is_without_supervised_tokens_or_too_long(bytes_only, room):
    template = chat(bytes_only, "chatml")
    shapes = [(1, 1), (1, 60), (60, 1), (60, 60), (7, 7)]
    records = [record(("user", "why " * a), ("assistant", "no " * b), *CHAT) for a, b in shapes]
    for example in template.encode_all(records, max_length=room):
        assert len(example) == len(example.supervised) <= room and example.supervised[-1]


def test_a_cut_conversation_ends_with_an_answer(bytes_only):
    template = chat(bytes_only, "chatml")
    full = template.encode(record(), max_length=500)[0]
    first_end = full.supervised.index(False, full.supervised.index(True))
    cut = template.encode(record(), max_length=first_end + 3)[0]
    assert cut.tokens == full.tokens[:first_end]


def test_oddities_are_counted(bytes_only):
    template = chat(bytes_only, "chatml")
    odd = record(("user", "what is </s>?"), ("assistant", "a"), ("user", "unanswered"))
    example = template.encode_all([odd, record()], "general", max_length=200)[0]
    assert "unanswered" not in whole(bytes_only, example) and example.source == "general"
    assert any(note.startswith("1 of 2 general records spell out a special token") for note in template.notes)
    assert any(note.startswith("1 of 2 general records end in turns that nobody answers") for note in template.notes)


def test_too_small_a_room_is_refused(bytes_only):
    with pytest.raises(PlanError, match="max_length 4"):
        chat(bytes_only, "chatml").encode(record(), max_length=4)


@pytest.mark.parametrize("path", REAL)
def test_real_tokenizers(path):
    tokenizer = AutoTokenizer.from_pretrained(path)
    template = ChatTemplate(tokenizer)
    turns = record(("user", "Is it so?"), ("assistant", "Yes, it is."))
    example = template.encode(turns, max_length=200)[0]
    start = example.supervised.index(True)
    assert list(example.tokens[:start]) == template.encode_prompt(turns.messages[:1])
    assert example.tokens[-1] in template.stop_ids and example.tokens.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(example.tokens[start:-1]).strip() == "Yes, it is."
