"""What a stored comparison says, as numbers."""
