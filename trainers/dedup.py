"""Train on each thing once: near-duplicates of an earlier domain example are dropped before batching."""

from harness.contract import Example, Method, Run


class Dedup(Method):
    """Keep the first of every cluster of near-duplicates (MinHash LSH over word 5-grams, Jaccard >= `threshold`).

    Clusters are connected components: what is like something that is like the first goes too. Prompt and answer count alike,
    so a repeated question with a different answer mostly stays. It runs on the CPU and is not charged; the budget then
    goes further over what is left. A `threshold` above 1 drops nothing.
    """

    paper = (
        "Lee et al. 2022, arXiv:2107.06499, section 4.2 (MinHash over 5-grams). "
        "@inproceedings{lee2022dedup, title={Deduplicating Training Data Makes Language Models Better}, author={Lee, "
        "Katherine and others}, booktitle={ACL}, year={2022}}"
    )
    verified = "finds the planted near-duplicates; keeps the first of each cluster"
    off = {"threshold": 2.0}
    search = {"threshold": (0.85, 0.95)}
    bounds = {"threshold": "[0.85, inf)"}

    def __init__(self, threshold: float = 0.85):
        self.threshold = threshold
        self.dropped_, self.read_ = 0, 0

    def records(self, examples: list[Example], run: Run) -> list[Example]:
        first = run.near_duplicates(examples, self.threshold)
        kept = [example for place, example in enumerate(examples) if first[place] == place]
        self.dropped_, self.read_ = len(examples) - len(kept), len(examples)
        return kept

    def notes(self) -> list[str]:
        return [f"{self.dropped_:,} of {self.read_:,} domain examples nearly repeat an earlier one: left out."]
