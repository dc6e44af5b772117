"""Small chat templates in the forms that model families use, and small tokenizers of every kind, made here."""

from __future__ import annotations

from functools import cache
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

ROLE = "{{ m['role'] }}"
TEXT = "{{ m['content'] }}"
EACH, END = "{% for m in messages %}", "{% endfor %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
ALTERNATE = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)


def prompted(opening: str) -> str:
    """What a template writes where an answer is to be generated."""
    return "{% if add_generation_prompt %}" + opening + "{% endif %}"


def by_role(user: str, assistant: str, system: str) -> str:
    """A turn of each role."""
    return (
        EACH
        + "{% if m['role'] == 'user' %}"
        + user
        + "{% elif m['role'] == 'assistant' %}"
        + assistant
        + "{% else %}"
        + system
        + "{% endif %}"
        + END
    )


CHATML = EACH + "<|im_start|>" + ROLE + "\n" + TEXT + "<|im_end|>\n" + END
LONG = "{{ bos_token }}" + EACH + "<|start|>" + ROLE + "<|sep|>\n\n" + "{{ m['content'] | trim }}<|eot|>" + END
THINKING = (
    EACH + "<|im_start|>" + ROLE + "\n"
    "{% set said = m['content'] %}{% set thought = '' %}"
    "{% if m['role'] == 'assistant' and '</think>' in said %}"
    "{% set thought = said.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set said = said.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n{{ thought }}\n</think>\n\n{% endif %}"
    "{{ said }}<|im_end|>\n" + END
)
REASONER = "{{ bos_token }}" + by_role(
    "<|user|>" + TEXT, "<|assistant|>{{ m['content'].split('</think>')[-1] }}{{ eos_token }}", TEXT
)
FAMILIES: dict[str, str | None] = {
    "plain": None,
    "chatml": CHATML + prompted("<|im_start|>assistant\n{{ '' }}"),
    "chatml without a generation prompt": CHATML,
    "chatml that always opens an answer": CHATML + "<|im_start|>assistant\n{{ '' }}",
    "qwen 2.5": "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe of use.<|im_end|>\n{% endif %}"
    + CHATML
    + prompted("<|im_start|>assistant\n{{ '' }}"),
    "qwen 3": THINKING
    + prompted("<|im_start|>assistant\n{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{{ '' }}"),
    "qwen 3 that only thinks": THINKING + prompted("<|im_start|>assistant\n<think>\n{{ '' }}"),
    "deepseek r1": REASONER + prompted("<|assistant|><think>\n{{ '' }}"),
    "deepseek r1, old": REASONER + prompted("<|assistant|>"),
    "deepseek": "{{ bos_token }}"
    + by_role("User: " + TEXT + "\n\n", "Assistant: " + TEXT + "{{ eos_token }}", TEXT + "\n\n")
    + prompted("Assistant:"),
    "llama 2": ALTERNATE
    + by_role("{{ bos_token }}[INST] {{ m['content'].strip() }} [/INST]", " {{ m['content'].strip() }} {{ eos_token }}", ""),
    "llama 3": LONG + prompted("<|start|>assistant<|sep|>\n\n{{ '' }}"),
    "mistral": "{{ bos_token }}" + ALTERNATE + by_role("[INST] " + TEXT + "[/INST]", " " + TEXT + "{{ eos_token }}", ""),
    "vicuna": by_role("USER: " + TEXT + " ", "ASSISTANT: " + TEXT + "{{ eos_token }}", TEXT + " ") + prompted("ASSISTANT:"),
    "vicuna without a generation prompt": by_role("USER: " + TEXT + " ", "ASSISTANT: " + TEXT + "{{ eos_token }}", TEXT + " "),
    "alpaca": by_role("### Instruction:\n" + TEXT + "\n\n", "### Response:\n" + TEXT + "{{ eos_token }}\n\n", TEXT + "\n\n")
    + prompted("### Response:\n{{ '' }}"),
    "gemma": "{{ bos_token }}"
    + NO_SYSTEM
    + EACH
    + "<|start|>{{ 'model' if m['role'] == 'assistant' else 'user' }}\n{{ m['content'] | trim }}<|eot|>\n"
    + END
    + prompted("<|start|>model\n{{ '' }}"),
    "phi": EACH
    + "<|"
    + ROLE
    + "|>\n"
    + TEXT
    + "<|end|>\n"
    + END
    + "{% if add_generation_prompt %}<|assistant|>\n{{ '' }}{% else %}{{ eos_token }}{% endif %}",
    "glm": EACH + "<|" + ROLE + "|>\n" + TEXT + END + prompted("<|assistant|>\n{{ '' }}"),
    "zephyr": EACH + "<|" + ROLE + "|>\n" + TEXT + "{{ eos_token }}\n" + END + prompted("<|assistant|>\n{{ '' }}"),
    "command r": "{{ bos_token }}"
    + EACH
    + "<|start|><|"
    + ROLE
    + "|>"
    + TEXT
    + "<|end|>"
    + END
    + prompted("<|start|><|assistant|>"),
    "granite": EACH + "<|start|>" + ROLE + "<|sep|>" + TEXT + "<|end|>\n" + END + prompted("<|start|>assistant<|sep|>"),
    "internlm": "{{ bos_token }}" + CHATML + prompted("<|im_start|>assistant\n{{ '' }}"),
    "baichuan": by_role("<|user|>" + TEXT, "<|assistant|>" + TEXT + "{{ eos_token }}", TEXT) + prompted("<|assistant|>"),
    "openchat": "{{ bos_token }}"
    + by_role("Correct User: " + TEXT + "<|end|>", "Correct Assistant: " + TEXT + "<|end|>", TEXT + "<|end|>")
    + prompted("Correct Assistant:"),
    "starchat": EACH + "<|" + ROLE + "|>\n" + TEXT + "<|end|>\n" + END + prompted("<|assistant|>\n{{ '' }}"),
    "closed by text": EACH + "### " + ROLE + ":\n" + TEXT + "\n### End\n" + END + prompted("### assistant:\n{{ '' }}"),
    "nothing between": EACH + TEXT + "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}" + END,
    "last question only": "<|user|>{{ (messages | selectattr('role', 'equalto', 'user') | list)[-1]['content'] }}<|assistant|>"
    "{% if messages[-1]['role'] == 'assistant' %}{{ messages[-1]['content'] }}<|end|>{% endif %}",
}
"""Family -> template; None: the tokenizer has none."""
REFUSED = {
    "lower case": EACH + "<|" + ROLE + "|>{{ m['content'] | lower }}<|end|>" + END + prompted("<|assistant|>"),
    "escaped": EACH + "<|" + ROLE + "|>{{ m['content'] | e }}<|end|>" + END + prompted("<|assistant|>"),
    "without answers": EACH + "{% if m['role'] == 'user' %}<|user|>" + TEXT + "{% endif %}" + END + prompted("<|assistant|>"),
    "refuses answers": by_role("<|user|>" + TEXT, "{{ raise_exception('no answers here') }}", TEXT),
    "adds to a list": EACH + "{{ m['content'] + [] }}" + END,
}
"""Templates that cannot be used faithfully."""
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>", "<|start|>", "<|sep|>", "<|eot|>", "<|end|>"]
SPECIAL += ["<|user|>", "<|assistant|>", "<|system|>"]
CORPUS = [
    "the red bird and the blue cat say three words: buy, sell or hold? Yes. No.\n\nUser: why not 12 + -5 = 7?",
    "[INST] Be brief. [/INST] ### Instruction:\n### Response:\n USER: ASSISTANT: <think> so </think> <|im_end|>",
] * 20
LETTERS = [chr(code) for code in (10, *range(33, 127))]


def _bpe(**options: Any) -> tuple[Tokenizer, Any]:
    alphabet = options.pop("alphabet", LETTERS)
    special = [AddedToken(text, special=True, normalized=False) for text in SPECIAL]
    return Tokenizer(models.BPE(**options)), trainers.BpeTrainer(
        special_tokens=special, initial_alphabet=alphabet, vocab_size=420
    )


def _byte_level(prefix: bool = False) -> Tokenizer:
    core, trainer = _bpe(alphabet=pre_tokenizers.ByteLevel.alphabet())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=prefix), decoders.ByteLevel()
    core.train_from_iterator(CORPUS, trainer)
    return core


def _sentencepiece(scheme: str) -> Tokenizer:
    core, trainer = _bpe(unk_token="<unk>")
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)  # type: ignore[arg-type]
    core.decoder = decoders.Metaspace(prepend_scheme=scheme)  # type: ignore[arg-type]
    core.train_from_iterator(CORPUS, trainer)
    return core


def _llama() -> Tokenizer:
    """Word starts written by the normaliser, no pre-tokenizer, unknown characters as bytes."""
    core, trainer = _bpe(unk_token="<unk>", byte_fallback=True, fuse_unk=True, alphabet=[*LETTERS, "▁"])
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.train_from_iterator(CORPUS, trainer)
    return core


def _unigram() -> Tokenizer:
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    core.decoder = decoders.Metaspace(prepend_scheme="first")
    special = [AddedToken(text, special=True, normalized=False) for text in SPECIAL]
    options = {"special_tokens": special, "unk_token": "<unk>", "initial_alphabet": [*LETTERS, "▁"], "vocab_size": 260}
    core.train_from_iterator(CORPUS, trainers.UnigramTrainer(**options))  # type: ignore[arg-type]
    return core


def _wordpiece() -> Tokenizer:
    core = Tokenizer(models.WordPiece(unk_token="<unk>"))  # type: ignore[call-arg]
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer, core.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    special = [AddedToken(text, special=True, normalized=False) for text in SPECIAL]
    core.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(special_tokens=special, initial_alphabet=LETTERS, vocab_size=420)
    )
    return core


def _characters() -> Tokenizer:
    known = {text: number for number, text in enumerate([*SPECIAL, *LETTERS, " "])}
    core = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    return core


def _adding(form: str) -> Tokenizer:
    core = _byte_level()
    ids = [(name, core.token_to_id(name)) for name in ("<s>", "</s>")]
    core.post_processor = processors.TemplateProcessing(single=form, special_tokens=ids)  # type: ignore[call-arg]
    return core


KINDS = {
    "byte level": _byte_level,
    "byte level, prefix space": lambda: _byte_level(prefix=True),
    "metaspace, always": lambda: _sentencepiece("always"),
    "metaspace, first": lambda: _sentencepiece("first"),
    "llama": _llama,
    "unigram": _unigram,
    "wordpiece": _wordpiece,
    "characters": _characters,
    "adds bos": lambda: _adding("<s> $A"),
    "adds eos": lambda: _adding("$A </s>"),
    "adds both": lambda: _adding("<s> $A </s>"),
    "no pad": _byte_level,
}
"""Kind -> a tokenizer of it."""


@cache
def _made(kind: str) -> str:
    return KINDS[kind]().to_str()


def tokenizer_of(kind: str, template: str | None) -> Any:
    """A fresh tokenizer of this kind with this template."""
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"} | (
        {} if kind == "no pad" else {"pad_token": "<pad>"}
    )
    core = Tokenizer.from_str(_made(kind))
    return PreTrainedTokenizerFast(tokenizer_object=core, chat_template=template, model_max_length=512, **names)
