"""saescope: specialisation (SI) and modularity (Q) of sparse-autoencoder features, with honest nulls."""

__version__ = "0.1.0"
