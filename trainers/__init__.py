"""One method a file; file, class and command-line name are one word. They import `harness.contract` and nothing else of ours."""
