"""From a conversation to tokens: one way for training and evaluation."""
