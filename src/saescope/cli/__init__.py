"""The commands. With `config/compose.py` the only place that knows Hydra."""
