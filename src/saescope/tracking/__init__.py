"""The run: files first, Weights & Biases second."""
