"""Text that any machine can write for itself: generated English tasks and the Python standard library."""
