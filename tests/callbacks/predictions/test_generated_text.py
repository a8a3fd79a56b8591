"""Tests of generated text, and of the errors for other models and data."""

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import GeneratedText


@pytest.fixture
def writer(small):
    """Return a `Small` with `generate`, which samples letters from the given random generator."""
    model = small()

    def generate(prompt_ids, length, temperature, generator=None):
        assert temperature == 0.8
        assert not model.training
        torch.rand(3)  # using the global random state must not change training
        return torch.cat([prompt_ids, torch.randint(97, 123, (length,), generator=generator)])

    model.generate = generate
    return model


@pytest.fixture
def letters(blobs):
    data = blobs()
    data.encode = lambda text: torch.tensor([ord(letter) for letter in text])
    data.decode = lambda ids: "".join(chr(int(index)) for index in ids)
    return data


def test_text_is_generated_every_second_epoch(make_trainer, writer, letters, tmp_path, capsys) -> None:
    callback = GeneratedText(prompt="The ", length=12, every_n_epochs=2)
    make_trainer([callback], tensorboard=True, max_epochs=4).fit(writer, letters)
    written = (tmp_path / "run/generated.txt").read_text().split("\n\n")[:-1]
    assert [text.splitlines()[0] for text in written] == ["--- epoch 2, step 12 ---", "--- epoch 4, step 24 ---"]
    texts = [text.splitlines()[1] for text in written]
    assert all(text.startswith("The ") and len(text) == 16 for text in texts)
    assert texts[0] != texts[1]
    assert capsys.readouterr().out == f"Generated text:\n{texts[1]}\n"
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"tensors": 0})
    events.Reload()
    assert [event.step for event in events.Tensors("generated/text/text_summary")] == [12, 24]


def test_a_model_that_returns_only_the_continuation(make_trainer, writer, letters) -> None:
    whole = writer.generate
    writer.generate = lambda ids, *arguments, **named: whole(ids, *arguments, **named)[len(ids) :]
    callback = GeneratedText(prompt="The ", length=12)
    make_trainer([callback], max_epochs=1).fit(writer, letters)
    assert callback.text.startswith("The ")
    assert len(callback.text) == 16


def test_fast_dev_run_writes_nothing(make_trainer, writer, letters, tmp_path) -> None:
    make_trainer([GeneratedText()], fast_dev_run=True).fit(writer, letters)
    assert list(tmp_path.iterdir()) == []


def test_models_and_data_without_the_methods_raise_an_error(make_trainer, small, writer, blobs) -> None:
    with pytest.raises(MisconfigurationException, match=r"GeneratedText: Small has no generate\(\)"):
        make_trainer([GeneratedText()]).fit(small(), blobs())
    with pytest.raises(MisconfigurationException, match=r"GeneratedText: Blobs has no encode\(\)"):
        make_trainer([GeneratedText()]).fit(writer, blobs())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"prompt": ""}, r"GeneratedText\.prompt must be a text that is not empty, got ''"),
        ({"length": 0}, r"GeneratedText\.length must be above 0, got 0"),
        ({"temperature": 0.0}, r"GeneratedText\.temperature must be above 0"),
        ({"every_n_epochs": -1}, r"GeneratedText\.every_n_epochs must be above 0, got -1"),
    ],
)
def test_invalid_arguments_raise_an_error(arguments, sentence) -> None:
    with pytest.raises(MisconfigurationException, match=sentence):
        GeneratedText(**arguments)
