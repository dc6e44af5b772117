"""Two evaluations that somebody else ran, compared document by document. No torch."""
