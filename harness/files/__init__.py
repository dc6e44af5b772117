"""The user's files: what a row may hold, and how records and items are read from it."""
