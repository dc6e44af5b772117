"""Models tuned elsewhere, mended after their training by methods that change final weights, and the dev items for that."""
