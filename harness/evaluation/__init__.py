"""Scoring a model: one path for every model."""
