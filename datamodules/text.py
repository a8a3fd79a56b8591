"""Text for next-token prediction, with characters or words as tokens."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.base import LitDataModule, Split, TargetKind
from datamodules.checks import check_choice, check_integer
from datamodules.serving.batches import Batch
from datamodules.serving.splits import validation_count

UNKNOWN = "<unk>"
TEST_SHARE = 0.1
Level = Literal["char", "word"]


class TextDataModule(LitDataModule):
    """Windows of a text: x is `sequence_length` tokens, y the same shifted by one token, both int64 `(B, T)`.

    The text is split by position: the last tenth is the test split, preceded by the validation windows. With random
    windows, the same sentence could be in two splits. The vocabulary contains the unknown token, which is the first,
    and the tokens of the training split.
    The default text is the language reference in Python's `pydoc_data.topics`. The text, and therefore the vocabulary
    and the data hash, may differ between versions of Python.
    """

    target_kind: ClassVar[TargetKind] = "tokens"
    fixed_properties: ClassVar[tuple[str, ...]] = ("target_kind", "level")
    fitted_properties: ClassVar[tuple[str, ...]] = ("class_names",)  # the vocabulary

    def __init__(
        self,
        path: str | None = None,
        level: Level = "char",
        sequence_length: int = 64,
        max_vocab: int | None = None,
        **options: Any,
    ) -> None:
        """Check the arguments and that the file exists.

        Args:
            path: text file in UTF-8; by default an English text included in Python.
            level: tokens are characters (char), or words, punctuation marks and line breaks (word).
            sequence_length: number of tokens per window; windows are consecutive and do not overlap.
            max_vocab: number of most frequent tokens in the vocabulary; the others become unknown; by default all.
            **options: arguments of every datamodule, see `LitDataModule`; val_split counts windows.
        """
        super().__init__(**options)
        check_choice("level", level, ("char", "word"))
        check_integer("sequence_length", sequence_length)
        if max_vocab is not None:
            check_integer("max_vocab", max_vocab)
        if path is not None and not Path(path).expanduser().is_file():
            raise MisconfigurationException(f"path: file not found: {path}. Set --data.path to a text file in UTF-8.")
        self.path = path
        self.level = level
        self.sequence_length = sequence_length
        self.max_vocab = max_vocab
        self.input_shape = (sequence_length,)

    @cached_property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Tokens by number, from 0; token 0 represents all unknown tokens."""
        train = self._tokens("train")[: self._validation_start() * self.sequence_length + 1]
        counts = Counter(train)
        # Sort ties alphabetically, so that the order of the text does not matter.
        frequent = sorted(counts, key=lambda token: (-counts[token], token))[: self.max_vocab]
        return (UNKNOWN, *sorted(frequent))

    @property
    def vocab_size(self) -> int:
        """Number of tokens, including the unknown token."""
        return len(self.class_names)

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """Number of classes, equal to `vocab_size`, because the next token is the class."""
        return self.vocab_size

    def encode(self, text: str) -> Tensor:
        """Return the token numbers int64 `(T,)` of a text; tokens outside the vocabulary become 0."""
        return self._numbers(tokenize(text, self.level))

    def decode(self, ids: Tensor | Sequence[int]) -> str:
        """Return the text of token numbers, with a space between words."""
        numbers: list[int] = torch.as_tensor(ids).flatten().tolist()
        return ("" if self.level == "char" else " ").join(self.class_names[number] for number in numbers)

    def load_part(self, split: Split) -> Batch:
        """Return all windows of one split, as views of its token numbers."""
        numbers = self._numbers(self._tokens(split))
        length = self.sequence_length
        return numbers[:-1].unfold(0, length, length), numbers[1:].unfold(0, length, length)

    def split(self, num_samples: int, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first windows for training and the last ones for validation."""
        count = validation_count(num_samples, self.val_split)
        return torch.arange(num_samples - count), torch.arange(num_samples - count, num_samples)

    @cached_property
    def _text(self) -> list[str]:
        tokens = tokenize(default_text() if self.path is None else read_utf8(Path(self.path).expanduser()), self.level)
        start = self._test_start(len(tokens))
        if min(start, len(tokens) - start) < self.sequence_length + 1:
            raise MisconfigurationException(
                f"sequence_length: {self.sequence_length} is too long: the text {self.path or 'of Python'} has only "
                f"{len(tokens)} tokens, which is not enough for a window in the test split. Use a longer "
                "text, or a smaller --data.sequence_length."
            )
        return tokens

    @staticmethod
    def _test_start(num_tokens: int) -> int:
        return num_tokens - round(num_tokens * TEST_SHARE)

    def _tokens(self, split: Split) -> list[str]:
        start = self._test_start(len(self._text))
        return self._text[:start] if split == "train" else self._text[start:]

    def _validation_start(self) -> int:
        windows = (len(self._tokens("train")) - 1) // self.sequence_length
        return windows - validation_count(windows, self.val_split)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.class_names)}

    def _numbers(self, tokens: Iterable[str]) -> Tensor:
        return torch.tensor([self._index.get(token, 0) for token in tokens], dtype=torch.int64)


def tokenize(text: str, level: Level) -> list[str]:
    """Split a text into characters, or into words, punctuation marks and line breaks."""
    return list(text) if level == "char" else re.findall(r"\w+|[^\w\s]|\n", text)


def read_utf8(path: Path) -> str:
    """Return the text of a file; raise an error if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MisconfigurationException(
            f"path: {path} is not text in UTF-8 (invalid byte {error.start}). Convert it, or set another --data.path."
        ) from error
    except OSError as error:
        raise MisconfigurationException(
            f"path: {path} cannot be read ({error.strerror}). Set another --data.path."
        ) from error


def default_text() -> str:
    """Return Python's help topics in sorted order, about 700,000 characters of English."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))
