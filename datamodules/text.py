"""Text for next-token prediction: the characters or words of a file."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.base import LitDataModule, Part
from datamodules.serving.batches import Batch
from datamodules.serving.splits import validation_count

UNKNOWN = "<unk>"
TEST_SHARE = 0.1
Level = Literal["char", "word"]


class TextDataModule(LitDataModule):
    """Windows of a text: x = `sequence_length` tokens, y = the same shifted by one, both int64 (B, T).

    The parts are cut by position: the last tenth is the test set, the validation windows are the end of what is
    before it. Windows drawn at random would put neighbouring sentences, even the same one, into two parts.
    The vocabulary is that of the training part and an unknown token, which stands first.
    The default text is the language reference in Python's own `pydoc_data.topics`: it differs a little between
    versions of Python (the data hash shows it), and so may the vocabulary.
    """

    target_kind: ClassVar[Literal["classes", "numbers", "tokens"]] = "tokens"

    def __init__(
        self,
        path: str | None = None,
        level: Level = "char",
        sequence_length: int = 64,
        max_vocab: int | None = None,
        **options: Any,
    ) -> None:
        """Check the arguments and that the file is there.

        Args:
            path: a text file in UTF-8; by default English that comes with Python.
            level: what a token is: a character, or a word, a punctuation mark or a line end.
            sequence_length: tokens per window; windows follow each other without overlap.
            max_vocab: keep only so many of the most frequent tokens, the rest becomes unknown; default all.
            **options: arguments of every datamodule, see `LitDataModule`; val_split counts windows.
        """
        super().__init__(**options)
        if level not in ("char", "word"):
            raise MisconfigurationException(f"level: {level!r} is not known. Give char or word.")
        if sequence_length < 1:
            raise MisconfigurationException(f"sequence_length: {sequence_length} is not possible. Give 1 or more.")
        if max_vocab is not None and max_vocab < 1:
            raise MisconfigurationException(f"max_vocab: {max_vocab} is not possible. Give 1 or more.")
        if path is not None and not Path(path).expanduser().is_file():
            raise MisconfigurationException(f"path: there is no file {path}. Give the path of a text file in UTF-8.")
        self.path = path
        self.level = level
        self.sequence_length = sequence_length
        self.max_vocab = max_vocab
        self.input_shape = (sequence_length,)

    @cached_property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The tokens by their number; the first stands for all unknown ones."""
        train = self._tokens("train")[: self._validation_start() * self.sequence_length + 1]
        counts = Counter(train)
        # Ties by the alphabet, so that the order of the text does not matter.
        kept = sorted(counts, key=lambda token: (-counts[token], token))[: self.max_vocab]
        return (UNKNOWN, *sorted(kept))

    @property
    def vocab_size(self) -> int:
        """Number of tokens, the unknown one included."""
        return len(self.class_names)

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """The same as `vocab_size`: the next token is the class."""
        return self.vocab_size

    def encode(self, text: str) -> Tensor:
        """Token numbers int64 (T,) of a text; tokens outside the vocabulary become 0."""
        return self._numbers(tokenize(text, self.level))

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """The text of token numbers; words are joined by single spaces."""
        numbers: list[int] = torch.as_tensor(ids).flatten().tolist()
        return ("" if self.level == "char" else " ").join(self.class_names[number] for number in numbers)

    def load_part(self, part: Part) -> Batch:
        """All windows of one part as views of its token numbers, without a copy per window."""
        numbers = self._numbers(self._tokens(part))
        length = self.sequence_length
        return numbers[:-1].unfold(0, length, length), numbers[1:].unfold(0, length, length)

    def split(self, num_samples: int, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The last windows validate."""
        count = validation_count(num_samples, self.val_split)
        return torch.arange(num_samples - count), torch.arange(num_samples - count, num_samples)

    @cached_property
    def _text(self) -> list[str]:
        tokens = tokenize(default_text() if self.path is None else read_text(Path(self.path).expanduser()), self.level)
        shortest = min(len(tokens) - self._test_start(len(tokens)), self._test_start(len(tokens)))
        if shortest < self.sequence_length + 1:
            raise MisconfigurationException(
                f"sequence_length: {self.sequence_length} is too long, the text {self.path or 'of Python'} has only "
                f"{len(tokens)} tokens and not one window in its last tenth, the test set. Give a longer text."
            )
        return tokens

    @staticmethod
    def _test_start(num_tokens: int) -> int:
        return num_tokens - round(num_tokens * TEST_SHARE)

    def _tokens(self, part: Part) -> list[str]:
        start = self._test_start(len(self._text))
        return self._text[:start] if part == "train" else self._text[start:]

    def _validation_start(self) -> int:
        windows = (len(self._tokens("train")) - 1) // self.sequence_length
        return windows - validation_count(windows, self.val_split)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.class_names)}

    def _numbers(self, tokens: Iterable[str]) -> Tensor:
        return torch.tensor([self._index.get(token, 0) for token in tokens], dtype=torch.int64)


def tokenize(text: str, level: Level) -> list[str]:
    """Characters, or words, punctuation marks and line ends."""
    return list(text) if level == "char" else re.findall(r"\w+|[^\w\s]|\n", text)


def read_text(path: Path) -> str:
    """The file's text; says where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MisconfigurationException(
            f"path: {path} is no text in UTF-8 (byte {error.start} does not fit). Convert it, or give another file."
        ) from error
    except OSError as error:
        raise MisconfigurationException(
            f"path: {path} cannot be read ({error.strerror}). Give another file."
        ) from error


def default_text() -> str:
    """Some 700,000 characters of English: Python's help topics in sorted order."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))
