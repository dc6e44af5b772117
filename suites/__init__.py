"""Lethe's evaluation suites, one folder each: lm-eval task YAML, data and scoring."""
