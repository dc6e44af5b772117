"""Pure functions of texts and numbers: no torch, no files."""
