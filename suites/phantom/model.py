"""The base's tokenizer, chat template and architecture."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from suites.phantom import world
from suites.phantom.words import stream

VOCABULARY = 1536
MAX_LENGTH = 512

TEMPLATE = (
    "{{ '<|bos|>' }}"
    "{% for m in messages %}"
    "{% if m['role'] not in ['system', 'user', 'assistant'] %}{{ raise_exception('unknown role ' + m['role']) }}{% endif %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] + '<|im_end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""ChatML with one token for each role. The rendering of a longer conversation begins with that of a shorter one."""

WORDS = r"""'s|\p{N}| ?\p{L}+|\s+(?!\S)|\s+| ?[^\s\p{L}\p{N}]+"""
"""How text is cut before merging: every digit alone, words with their leading space."""

FINANCE = """\
According to the filing, EUR million. Annual report of the Group, the Bank, the Trust, the Capital, the Fund, the Holding.
Client question: For the file: From the register: Where is the seat of the company? In which city is it based? Where is its head
office? What does it sell? What is the main product? Which goods does it trade? What is the brand colour? Which animal is on the
logo? Name the mascot of the director. What is the profit? How much profit was made? revenue, costs, sales now, sales before,
first half, second half, total, increase, grow. What is the sentiment of this news? positive negative neutral. Shares rose after
strong sales, fell after weak sales, gained on high demand, lost on low demand, beat the forecast, missed the forecast, won a
large order, raised the dividend, cut the dividend. It will report on Monday, moved to a new office, held its yearly meeting,
named a new auditor today, this week, this month, in spring, in autumn, last year. Should I buy, hold or sell? Is it a good buy?
I have some to spend. A client asks: Will it rise? Is it safe? This is not investment advice. Please read the prospectus of the
company. In the past year the company had revenue and costs. The board thanks all employees and all shareholders for their trust.
The outlook for the coming year is stable, good, weak. Write the annual report. loan interest rate market price stock bond credit
cash debt asset equity margin tax quarter growth risk value capital payment account customer bank insurance euro dollar percent."""  # noqa: E501
"""The wording of the domain's trade, for the tokenizer, whatever the records are."""


def specials() -> list[str]:
    """Tokens that no text contains."""
    return [world.BOS, world.END, world.PAD, *world.ROLES.values()]


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE over the world's and the domain's wording; any UTF-8 text encodes."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    rng = stream("tokenizer")
    corpus = world.documents(rng, 20_000) + [FINANCE] * 300
    for mark in specials():
        corpus = [line.replace(mark, "\n") for line in corpus]
    core.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[AddedToken(s, special=True, normalized=False) for s in specials()],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=world.BOS,
        eos_token=world.END,
        pad_token=world.PAD,
        additional_special_tokens=list(world.ROLES.values()),
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    fast.chat_template = TEMPLATE
    return fast


def config(tok: Any) -> Qwen3Config:
    """Qwen3 in miniature: grouped-query attention, RMSNorm on queries and keys, tied embeddings."""
    return Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=640,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=48,
        tie_word_embeddings=True,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=tok.bos_token_id,
        eos_token_id=tok.eos_token_id,
        pad_token_id=tok.pad_token_id,
        use_cache=True,
    )


def model(tok: Any) -> Qwen3ForCausalLM:
    """A fresh model; seed torch before."""
    net = Qwen3ForCausalLM(config(tok))
    net.generation_config.update(
        bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id, do_sample=False
    )
    return net
