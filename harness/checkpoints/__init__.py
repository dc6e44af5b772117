"""What a checkpoint must be made of, and how it becomes a model and a tokenizer."""
