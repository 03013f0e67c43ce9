"""Text: probe documents and their windows of tokens, training corpora and their rows, the embedded text."""
