"""Blind rating forms for people, and the ratings read back."""
