"""What a run will need, from the model's shape and the data's: memory, and the ways to spread a run over GPUs."""
