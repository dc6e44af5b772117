"""Models that somebody else tuned: what each is, how it differs from the base, and the weights to score."""
