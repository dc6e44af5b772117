"""Lethe's methods, one a file; file, class and command-line name are one word. Of ours they import `harness.contract` only."""
