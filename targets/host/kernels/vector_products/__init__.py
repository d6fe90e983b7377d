"""Products of vectors of few bits with a scale each."""
