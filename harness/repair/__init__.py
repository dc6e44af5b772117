"""Models tuned elsewhere, mended after their training: the methods that change final weights, and the dev items they decide by."""
