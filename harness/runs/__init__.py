"""One run executed and scored, tuning, the probe, how long it takes."""
