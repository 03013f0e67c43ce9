"""The commands. Only they and `config/compose.py` import Hydra."""
