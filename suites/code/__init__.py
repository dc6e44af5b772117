"""Code, scored without running any."""
