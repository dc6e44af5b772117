"""What models are asked: suites and test records as lm-eval tasks."""
