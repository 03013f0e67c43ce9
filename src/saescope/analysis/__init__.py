"""Codes and losses → metrics and tables."""
