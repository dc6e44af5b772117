"""Statistics of item scores: numpy, pandas and scipy only."""
