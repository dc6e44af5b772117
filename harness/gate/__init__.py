"""The gate for CI: evidence in, verdict out."""
