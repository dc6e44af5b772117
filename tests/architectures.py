"""Tiny random models of many architectures, and what works on each.

`python -m tests.architectures` writes docs/architectures.md.

Two layers of width 32, windows of 8 tokens, weights drawn wide so that attention is sharp and errors show.
"""

from __future__ import annotations

import inspect
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

VOCABULARY = 256
DOCS = Path(__file__).parents[1] / "docs" / "architectures.md"
ENDS = {"bos_token_id": 1, "eos_token_id": 3, "pad_token_id": 0}
USUAL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "head_dim": 8,
}
SMALL = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
LATENT = {
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
}
MAMBA = {
    "mamba_d_state": 8,
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
    "mamba_expand": 2,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "afmoe": ("Afmoe", EXPERTS | {"num_dense_layers": 1, "sliding_window": 8}),
    "apertus": ("Apertus", {}),
    "arcee": ("Arcee", {}),
    "bamba": ("Bamba", MAMBA | {"attn_layer_indices": [1]}),
    "bert": ("Bert", {}),
    "bitnet": ("BitNet", {}),
    "bloom": ("Bloom", {"n_layer": 2, "n_head": 4}),
    "codegen": ("CodeGen", SMALL | {"rotary_dim": 4}),
    "cohere": ("Cohere", {}),
    "cohere2": ("Cohere2", {"sliding_window": 8}),
    "dbrx": ("Dbrx", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256}),
    "deepseek_v2": ("DeepseekV2", LATENT | {"head_dim": 4}),
    "deepseek_v3": ("DeepseekV3", LATENT | {"head_dim": 4}),
    "ernie4_5": ("Ernie4_5", {}),
    "exaone4": ("Exaone4", {"sliding_window": 8}),
    "falcon": ("Falcon", {"multi_query": True, "parallel_attn": True, "alibi": False}),
    "falcon (ALiBi)": ("Falcon", {"multi_query": False, "parallel_attn": False, "alibi": True, "bias": True}),
    "falcon_h1": ("FalconH1", MAMBA | {"mamba_d_ssm": 64}),
    "falcon_mamba": ("FalconMamba", {"state_size": 4}),
    "gemma": ("Gemma", {"num_key_value_heads": 1}),
    "gemma2": ("Gemma2", {"sliding_window": 8}),
    "gemma3_text": ("Gemma3Text", {"sliding_window": 8}),
    "glm": ("Glm", {}),
    "glm4": ("Glm4", {}),
    "glm4_moe": ("Glm4Moe", EXPERTS | {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}),
    "gpt2": ("GPT2", SMALL),
    "gpt_bigcode": ("GPTBigCode", SMALL),
    "gpt_neo": ("GPTNeo", {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 8}),
    "gpt_neox": ("GPTNeoX", {}),
    "gpt_oss": ("GptOss", LOCAL_EXPERTS | {"sliding_window": 8}),
    "gptj": ("GPTJ", SMALL | {"rotary_dim": 4}),
    "granite": ("Granite", {}),
    "granitemoe": ("GraniteMoe", LOCAL_EXPERTS),
    "granitemoehybrid": ("GraniteMoeHybrid", MAMBA | LOCAL_EXPERTS | {"layer_types": ["mamba", "attention"]}),
    "helium": ("Helium", {}),
    "hunyuan_v1_dense": ("HunYuanDenseV1", {}),
    "jamba": (
        "Jamba",
        {
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "num_experts": 4,
            "mamba_d_state": 4,
        },
    ),
    "lfm2": ("Lfm2", {"layer_types": ["conv", "full_attention"], "block_multiple_of": 16}),
    "llama": ("Llama", {}),
    "llama4_text": ("Llama4Text", {"num_local_experts": 2, "intermediate_size_mlp": 64, "attention_chunk_size": 16}),
    "mamba": ("Mamba", {"state_size": 4}),
    "mamba2": ("Mamba2", {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 16}),
    "minimax": ("MiniMax", LOCAL_EXPERTS | {"layer_types": ["linear_attention", "full_attention"], "block_size": 16}),
    "mistral": ("Mistral", {"sliding_window": 8}),
    "mixtral": ("Mixtral", LOCAL_EXPERTS | {"sliding_window": None}),
    "mpt": ("Mpt", {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 256, "expansion_ratio": 2}),
    "nemotron": ("Nemotron", {}),
    "olmo": ("Olmo", {}),
    "olmo2": ("Olmo2", {}),
    "olmo3": ("Olmo3", {"sliding_window": 8}),
    "olmoe": ("Olmoe", EXPERTS),
    "opt": ("OPT", {"ffn_dim": 64, "word_embed_proj_dim": 16}),
    "persimmon": ("Persimmon", {}),
    "phi": ("Phi", {"partial_rotary_factor": 0.5, "num_key_value_heads": 4}),
    "phi3": ("Phi3", {}),
    "phimoe": ("Phimoe", LOCAL_EXPERTS),
    "qwen2": ("Qwen2", {}),
    "qwen2_moe": ("Qwen2Moe", EXPERTS | {"shared_expert_intermediate_size": 32}),
    "qwen3": ("Qwen3", {"tie_word_embeddings": True}),
    "qwen3_moe": ("Qwen3Moe", EXPERTS),
    "qwen3_next": ("Qwen3Next", EXPERTS | LINEAR | {"shared_expert_intermediate_size": 16}),
    "recurrent_gemma": (
        "RecurrentGemma",
        {"lru_width": 32, "attention_window_size": 8, "block_types": ["recurrent", "attention"]},
    ),
    "rwkv": ("Rwkv", {"attention_hidden_size": 32}),
    "seed_oss": ("SeedOss", {}),
    "smollm3": ("SmolLM3", {}),
    "stablelm": ("StableLm", {"num_key_value_heads": 4}),
    "starcoder2": ("Starcoder2", {"sliding_window": None}),
    "xglm": ("XGLM", {"d_model": 32, "ffn_dim": 64, "num_layers": 2, "attention_heads": 4}),
    "zamba2": (
        "Zamba2",
        {
            "mamba_d_state": 8,
            "n_mamba_heads": 8,
            "mamba_headdim": 8,
            "mamba_ngroups": 1,
            "chunk_size": 16,
            "layer_types": ["mamba", "hybrid"],
        },
    ),
}
"""Name -> (transformers' class less Config, its settings beside `USUAL`)."""


def configuration(name: str) -> Any:
    """The tiny configuration of an architecture."""
    import transformers

    kind, own = KINDS[name]
    make = getattr(transformers, f"{kind}Config")
    known = set(inspect.signature(make.__init__).parameters) | set(getattr(make, "__dataclass_fields__", {}))
    settings = {key: value for key, value in USUAL.items() if key in known}
    return make(**settings | own | ENDS | {"vocab_size": VOCABULARY})


def build(name: str) -> Any:
    """A tiny random model of an architecture, the same at each call."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(configuration(name)).float().eval()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() >= 2:
                    weight.normal_(0, 0.3)
    return model


# --- what is tried ----------------------------------------------------------------------------------------------------


class Subject:
    """A model of one architecture on disk, as runs meet it."""

    def __init__(self, name: str, folder: Path):
        from harness.models.base_model import BaseModel, weights_hash

        self.folder = folder
        self.model = build(name)
        self.model.save_pretrained(folder / "model")
        self.weights = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        count = sum(p.numel() for p in self.model.parameters())
        self.base = BaseModel(str(folder / "model"), None, weights_hash(self.weights), count, 256)

    def forward(self) -> str:
        from harness.decoding.capabilities import forward_faults

        return next((f"refused: {fault}" for fault in forward_faults(self.model)), "yes")

    def stored(self) -> str:
        from harness.models.base_model import own_weights, weights_hash

        loaded = self.base.load(torch.float32)
        return "yes" if weights_hash(own_weights(loaded)) == self.base.hash else "no: other weights come back"

    def decoding(self) -> str:
        from harness.decoding.capabilities import tried

        return tried(self.model).decoding

    def shared(self) -> str:
        from harness.decoding.prefix_tree import longest_shared

        return "yes" if longest_shared(self.model) else "no"

    def packed(self) -> str:
        from harness.models.packed_attention import check_packing

        check_packing(self.base.load(torch.float32))
        return "yes"

    def priced(self) -> str:
        from harness.models.base_model import empty_model
        from harness.models.flops import price_of

        price_of(empty_model(self.base.path), backward=True)
        return "yes"

    def trains(self, recipe: str) -> str:
        """Two steps; what is stored of the model must give the trained one's logits."""
        from harness.errors import raise_faults
        from harness.recipes.recipe import parse_recipe
        from harness.setup.recipe_trial import recipe_faults

        raise_faults(recipe_faults(self.base, [parse_recipe(recipe)]))
        from harness.models.batches import collate
        from harness.models.forward import logits_at
        from tests.support.training import examples, make_run, trained, trained_model

        run = make_run(self.base, recipe, allowed=2)
        weights, _ = trained(run, self.folder / recipe)
        if any(not w.isfinite().all() for w in weights.values()):
            return "no: weights are not finite"
        fresh = self.base.load(torch.float32)
        with torch.no_grad():
            for name, parameter in fresh.named_parameters():
                parameter.copy_(weights[name])
            batch = collate(examples(3))
            found, expected = (logits_at(m.eval(), batch) for m in (fresh, trained_model(run)))
        moved = any(not torch.equal(weights[name], start) for name, start in self.weights.items())
        same = torch.allclose(found, expected, atol=1e-4 * float(expected.std()) + 1e-5)
        return "yes" if same and moved else "no: other logits" if moved else "no: nothing trained"

    def sft(self) -> str:
        return self.trains("sft")

    def lora(self) -> str:
        return self.trains("lora")


CHECKS: dict[str, tuple[str, Callable[[Subject], str]]] = {
    "forward": ("runs, is causal, and scores a text alike beside others in a right-padded batch", Subject.forward),
    "stored": ("saved and loaded again, it has the same weights", Subject.stored),
    "decoding": ("how answers are generated: `batched`, `cached` or `uncached` (below)", Subject.decoding),
    "shared rows": ("texts that begin alike may share a row", Subject.shared),
    "packed": ("rows of several training texts keep these apart (`pack_length`, `mode=cpt`)", Subject.packed),
    "price": ("its FLOPs are counted and predicted", Subject.priced),
    "sft": ("two steps of plain fine-tuning; what is stored scores as the trained model", Subject.sft),
    "lora": ("the same with `lora`, folded", Subject.lora),
}


def checked(name: str) -> dict[str, str]:
    """Check -> yes, no, or why not."""
    from harness.errors import PlanError

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            subject = Subject(name, Path(folder))
        except Exception as error:  # the installed transformers does not make it so small
            return dict.fromkeys(CHECKS, f"not checked here: {' '.join(str(error).split())[:150]}")
        for check, (_, attempt) in CHECKS.items():
            if found.get("forward", "yes") != "yes":
                found[check] = found["forward"]  # it is refused as soon as it is opened
                continue
            try:
                found[check] = attempt(subject)
            except PlanError as error:
                found[check] = f"refused: {error}"
            except Exception as error:  # any is a row of the table
                found[check] = f"fails: {type(error).__name__}: {' '.join(str(error).split())[:150]}"
    return found


TEXT = """# Architectures

Written by `python -m tests.architectures`: transformers {transformers}, peft {peft}, torch {torch}, on a CPU. Every
architecture is tried as a tiny random model (two layers, width 32, windows of 8 tokens). One that is not here is tried in the
same way on its own weights when it is planned, and refused if it is not right (`harness/decoding/capabilities.py`). {count}
architectures are tried here, {whole} pass everything.

{meaning}

`batched` answers prompts of unequal length together on one key-value cache, rows joining and leaving as they end. `cached` is
transformers' own `generate`, prompts of one length together; `uncached` is the same without a cache: the whole text
is read again for each token. All three gave the logits of each prompt alone in one pass. If texts do not share rows,
each is read whole. Slower ways cost time only.

| architecture | {heads} |
| --- | {lines} |
{rows}
{notes}"""


def table(found: dict[str, dict[str, str]]) -> str:
    """The document; what is not a word stands below the table, each sentence once."""
    from importlib.metadata import version

    notes: dict[str, int] = {}
    rows = []
    for name, results in found.items():
        cells = []
        for said in results.values():
            short, _, rest = said.partition(": ")
            if rest:
                short = f"{short} [{notes.setdefault(rest, len(notes) + 1)}]"
            cells.append(short)
        rows.append(f"| {name} | {' | '.join(cells)} |")
    whole = sum(all(said in ("yes", "batched") for said in results.values()) for results in found.values())
    return TEXT.format(
        **{name: version(name).partition("+")[0] for name in ("transformers", "peft", "torch")},
        count=len(found),
        whole=whole,
        meaning="\n".join(f"- {check}: {meaning}" for check, (meaning, _) in CHECKS.items()),
        heads=" | ".join(CHECKS),
        lines=" | ".join("---" for _ in CHECKS),
        rows="\n".join(rows),
        notes="".join(f"\n{number}. {text}" for text, number in notes.items()) + ("\n" if notes else ""),
    )


def main(names: list[str]) -> None:
    """Try the named architectures and print what is found; all of them, and write the document, where none is named."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    found = {}
    for name in names or KINDS:
        found[name] = checked(name)
        print(name, found[name], flush=True)
    if not names:
        DOCS.write_text(table(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
