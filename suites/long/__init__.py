"""Long context: a needle, and a look-up in two steps, in plain text."""
