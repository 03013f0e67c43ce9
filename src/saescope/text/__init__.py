"""Probe documents, and their windows of tokens."""
