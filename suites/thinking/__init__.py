"""Thoughts: whether a model that thinks before it answers still does."""
