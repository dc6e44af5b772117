"""The options of every `lethe` command, parsed."""
