"""Text for next-token prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import TextDataModule

STORY = "".join(f"line {i}: the cat sat on the mat, again.\n" for i in range(100))


@pytest.fixture
def story(tmp_path: Path) -> str:
    """A file of 100 lines."""
    path = tmp_path / "story.txt"
    path.write_text(STORY, encoding="utf-8")
    return str(path)


def test_targets_are_the_inputs_shifted_by_one(story: str) -> None:
    data = TextDataModule(story, sequence_length=16, batch_size=8)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        x, y = next(iter(loader))
        assert x.shape == y.shape == (8, 16)
        assert x.dtype == y.dtype == torch.int64
        assert torch.equal(x[:, 1:], y[:, :-1])


@pytest.mark.parametrize("level", ["char", "word"])
def test_splits_are_consecutive_in_the_text(story: str, level: Any) -> None:
    data = TextDataModule(story, level=level, sequence_length=16, batch_size=10_000)
    data.setup("fit")
    data.setup("test")
    train_x, _ = data.load_part("train")
    (val_x, _), (test_x, _) = next(iter(data.val_dataloader())), next(iter(data.test_dataloader()))
    assert torch.equal(val_x, train_x[-len(val_x) :])
    train = data.decode(train_x[: -len(val_x)])
    text = STORY if level == "char" else data.decode(data.encode(STORY))
    assert text.startswith(train)
    assert data.decode(val_x) in text[len(train) :]
    assert data.decode(test_x)[:40] in text[-len(text) // 9 :]
    assert data.split_sizes()["val"] == round(0.2 * len(train_x))


def test_the_vocabulary_is_that_of_the_training_split(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("ab" * 400 + "abX" * 40 + "abY" * 40)
    data = TextDataModule(str(path), sequence_length=10)
    assert data.class_names == ("<unk>", "a", "b")
    assert data.vocab_size == data.num_classes == 3
    assert data.encode("aYb").tolist() == [1, 0, 2]
    assert (data.load_part("test")[0] == 0).any()


def test_decode_inverts_encode_on_known_text(story: str) -> None:
    data = TextDataModule(story)
    assert data.decode(data.encode("the cat sat on the mat.\n")) == "the cat sat on the mat.\n"
    words = TextDataModule(story, level="word", sequence_length=8)
    assert words.decode(words.encode("the  cat sat, again.")) == "the cat sat , again ."


def test_a_limited_vocabulary_keeps_the_most_frequent_tokens(story: str) -> None:
    data = TextDataModule(story, level="word", sequence_length=8, max_vocab=2)
    assert data.vocab_size == 3
    assert "the" in data.class_names


def test_the_default_text_is_long_english() -> None:
    data = TextDataModule()
    data.setup("fit")
    data.setup("test")
    sizes = data.split_sizes()
    assert sizes["train"] > 3000
    assert sizes["test"] > 300
    assert 60 < data.vocab_size < 300
    x, _ = data.load_part("train")
    assert x.shape[1:] == data.input_shape == (64,)
    assert " the " in data.decode(x[:50])


def test_without_validation_the_vocabulary_covers_all_training_text(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("a" * 850 + "z" * 50 + "a" * 100)
    assert TextDataModule(str(path), sequence_length=10).class_names == ("<unk>", "a")
    assert TextDataModule(str(path), sequence_length=10, val_split=0).class_names == ("<unk>", "a", "z")


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (None, {}, "file not found"),
        (b"caf\xe9 " * 500, {}, r"is not text in UTF-8 \(invalid byte 3"),
        (b"short", {}, "sequence_length: 64 is too long"),
        (b"", {}, "sequence_length: 64 is too long"),
        (b"text " * 500, {"sequence_length": 0}, "sequence_length must be a positive integer, got 0"),
        (b"text " * 500, {"level": "byte"}, "level must be char or word, got 'byte'"),
        (b"text " * 500, {"max_vocab": 0}, "max_vocab must be a positive integer, got 0"),
        (
            b"text " * 500,
            {"stratify": True},
            "stratify: true needs classes, but the targets of TextDataModule are tokens",
        ),
        (b"text " * 500, {"target_form": "one_hot"}, "target_form: one_hot needs classes"),
        (b"text " * 500, {"val_split": 1000}, "leaves no training samples"),
    ],
)
def test_user_errors_are_reported_in_one_sentence(
    tmp_path: Path, content: bytes | None, options: dict[str, Any], words: str
) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MisconfigurationException, match=words):
        TextDataModule(str(path), **options).setup("fit")
