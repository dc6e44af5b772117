"""Models tuned elsewhere, mended after their training: the methods that change final weights, without a run."""
