"""The language model: load it, find hookpoints in it, capture there, measure its losses."""
