"""What a column looks like, in numbers that compare: frozen bins with additive counts, distances, and profiles for people."""
