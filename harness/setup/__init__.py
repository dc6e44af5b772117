"""What the runs of a plan share, loaded and checked once, and which runs they are."""
