"""Reading and writing text fast: shared prefixes, caches, continuous batching."""
