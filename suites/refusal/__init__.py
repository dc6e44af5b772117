"""Refusal and over-refusal in pairs, without a judge."""
