"""SAE files of other libraries than sparsify, read without those libraries: a file for each format."""
