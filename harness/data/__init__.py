"""What is trained on and what is tested, split so that nothing leaks."""
