"""Plain supervised fine-tuning: the reference every other method is measured against."""

from harness.contract import Method


class Sft(Method):
    """L = mean over supervised tokens of -log p(y_t | y_<t, x)."""

    paper = (
        "Ouyang et al. 2022, arXiv:2203.02155 (supervised stage). "
        "@article{ouyang2022instructgpt, title={Training language models to follow instructions with human "
        "feedback}, author={Ouyang, Long and others}, journal={arXiv:2203.02155}, year={2022}}"
    )
    plain = True
    verified = "packed and padded training agree; the pinned cross-entropy is the model's own loss"
