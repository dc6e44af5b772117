"""The measurement for GPUs, as far as a CPU can make it: it runs, its shapes are the published ones, it guesses nothing."""

from __future__ import annotations

import pytest
import torch

from harness.bundled import ROOT
from harness.models.base_model import empty_model
from tests.bench.gpu import BEGIN, END, Case, base_of, documents, main, table


@pytest.mark.parametrize(("shape", "billions", "tied"), [("0.6B", 0.596, True), ("1.7B", 1.721, True), ("8B", 8.191, False)])
def test_shapes_have_the_published_number_of_parameters(shape, billions, tied, tmp_path):
    model = empty_model(base_of(shape, str(tmp_path)).path)
    assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, abs=5e-4)
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) is tied


def test_documents_last_for_all_steps_and_fit():
    case = Case("ours", "tiny", "sft", 64, 5)
    several = documents(case)
    assert min(map(len, several)) >= 16 and max(map(len, several)) <= 64
    assert sum(map(len, several)) >= 5 * case.step


FIGURES = {"tokens_a_second": 50_000.0, "flops_a_token": 9.89e9, "memory": 60_000_000_000, "kernels": "liger", "micro": 8192}


def test_a_share_of_the_peak_stands_only_where_the_peak_is_known():
    case = Case("ours", "1.7B", "sft", 2048, 12)
    assert table([(case, FIGURES)], "NVIDIA H200")[-1] == "| 1.7B | sft | 2048 | ours | liger | 50,000 | 50% | 60.0 |"
    for unknown in ("NVIDIA A10G", None):
        assert table([(case, FIGURES)], unknown)[-1] == "| 1.7B | sft | 2048 | ours | liger | 50,000 |  | 60.0 |"
    assert "liger, micro-batches of 4096 (memory ran out)" in table([(case, FIGURES | {"micro": 4096})], None)[-1]
    assert "| does not fit |" in table([(case, {"failed": "does not fit"})], "NVIDIA H200")[-1]


def test_the_page_has_a_place_for_the_table_and_no_made_up_figures():
    before, _, rest = (ROOT / "docs" / "gpu.md").read_text().partition(BEGIN)
    inside, _, after = rest.partition(END)
    assert before and after and ("no GPU was at hand" in inside or "tests.bench.gpu" in inside)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="measures a CPU")
def test_it_measures_both_sides_here(tmp_path):
    pytest.importorskip("trl")
    page = tmp_path / "gpu.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    main(["--shapes", "tiny", "--recipes", "lora", "--lengths", "64", "--steps", "4", "--page", str(page)])
    text = page.read_text()
    lines = [line.split("|") for line in text.splitlines() if line.startswith("| tiny")]
    assert [line[4].strip() for line in lines] == ["ours", "trl"]
    assert all(float(line[6].replace(",", "")) > 0 and not line[7].strip() and float(line[8]) > 0 for line in lines)
    assert text.startswith("before") and text.endswith("after\n")
