"""Weights & Biases: a copy of what the files of a run say."""
