"""A tokenizer of single letters, for packing by hand."""

from collections.abc import Sequence


class Letters:
    """a → 1, b → 2, …; EOS is 0. Counts the documents it has tokenised."""

    eos_token_id: int | None = 0

    def __init__(self, size: int = 200) -> None:
        self.size = size
        self.documents = 0

    def __len__(self) -> int:
        return self.size

    def get_vocab(self) -> dict[str, int]:
        return {chr(96 + i): i for i in range(self.size)}

    def __call__(
        self, texts: Sequence[str], add_special_tokens: bool, verbose: bool
    ) -> dict[str, list[list[int]]]:
        assert not add_special_tokens
        self.documents += len(texts)
        return {"input_ids": [[max(0, ord(c) - 96) % self.size for c in text] for text in texts]}


def split_at_eos(stream: Sequence[int]) -> list[str]:
    """The documents in a token stream."""
    text = "".join(" " if token == 0 else chr(96 + token) for token in stream)
    return text.split()
