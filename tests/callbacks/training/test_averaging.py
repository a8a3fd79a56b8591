"""Tests of averaged weights and of averaged views of an image."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from callbacks import AveragedViews, AveragedWeights, BestCheckpoint, LastCheckpoint
from callbacks.predictions.averaged_views import averaged_logits


def test_the_saved_weights_are_the_moving_average(make_trainer, small, blobs, tmp_path) -> None:
    seen: list[Tensor] = []
    model = small()
    model.on_train_batch_end = lambda *_: seen.append(model.net[0].weight.detach().clone())
    make_trainer([AveragedWeights(decay=0.8, every=2), LastCheckpoint()], max_epochs=1).fit(model, blobs())
    average = seen[0]
    for weight in seen[2::2]:
        average = 0.8 * average + 0.2 * weight
    kept = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    torch.testing.assert_close(kept["state_dict"]["net.0.weight"], average)
    assert torch.equal(kept["current_model_state"]["net.0.weight"], seen[-1])


def test_a_test_after_fit_scores_the_average(make_trainer, small, blobs, tmp_path) -> None:
    trainer = make_trainer([AveragedWeights(decay=0.9), BestCheckpoint("val/loss")], max_epochs=2)
    model, data = small(lr=0.5), blobs()
    trainer.fit(model, data)
    best = tmp_path / "run/checkpoints/best.ckpt"
    after = trainer.test(model, data, ckpt_path=best, weights_only=True, verbose=False)
    alone = make_trainer([AveragedWeights(decay=0.9), BestCheckpoint("val/loss")])
    assert alone.test(small(), blobs(), ckpt_path=best, weights_only=True, verbose=False) == after


def test_a_resume_restores_plain_weights_and_average(make_trainer, small, blobs, tmp_path) -> None:
    def fit(epochs: int, start: Any = None) -> dict[str, Tensor]:
        # No dropout and a seeded order, so that the result depends on the weights only.
        model = small()
        model.net[2] = nn.Identity()
        data = blobs()
        data.train_dataloader = lambda: DataLoader(data.train, batch_size=8)
        trainer = make_trainer([AveragedWeights(decay=0.8), LastCheckpoint()], max_epochs=epochs)
        trainer.fit(model, data, ckpt_path=start)
        return torch.load(last, weights_only=True)

    last = tmp_path / "run/checkpoints/last.ckpt"
    whole = fit(3)
    fit(2)
    resumed = fit(3, last)
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(whole[part][name], resumed[part][name]) for name in whole[part])


def test_before_start_step_the_plain_weights_are_saved(make_trainer, small, blobs, tmp_path) -> None:
    make_trainer([AveragedWeights(decay=0.9, start_step=1000), LastCheckpoint()], max_epochs=1).fit(small(), blobs())
    kept = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert all(torch.equal(kept["state_dict"][name], kept["current_model_state"][name]) for name in kept["state_dict"])


class _Validations(Callback):
    """The validation losses of the epochs."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.losses.append(float(trainer.callback_metrics["val/loss"]))


def _plain_loop(net: nn.Module, data: Any, epochs: int, decay: float, every: int, start: int) -> Any:
    """Train in plain torch; return plain and used weights, and the validation losses of the used weights."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    average: dict[str, Tensor] | None = None
    losses, step = [], 0
    for _ in range(epochs):
        for x, y in DataLoader(data.train, batch_size=8):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
            weights = {name: weight.detach().clone() for name, weight in net.state_dict().items()}
            if step == start:
                average = weights
            elif step > start and (step - start) % every == 0:
                average = {name: decay * average[name] + (1 - decay) * weights[name] for name in weights}
            step += 1
        used = weights if average is None else average
        x, y = data.rest[:]
        with torch.no_grad():
            losses.append(float(nn.functional.cross_entropy(torch.func.functional_call(net, used, (x,)), y)))
    return weights, used, losses


@pytest.mark.parametrize(("every", "start"), [(1, 0), (5, 0), (1, 8), (4, 9), (5, 13), (1, 1000), (50, 1000)])
@pytest.mark.parametrize("resume_after", [None, 1, 2])
def test_validation_and_checkpoints_equal_a_plain_loop(
    make_trainer, small, blobs, tmp_path, every, start, resume_after
) -> None:
    # 6 steps per epoch; the average starts in epoch 1, 2, 3 or never, and a resume is before, at or after its start.
    def fit(epochs: int, checkpoint: Any = None) -> list[float]:
        model, data, seen = small(), blobs(), _Validations()
        model.net[2] = nn.Identity()
        data.train_dataloader = lambda: DataLoader(data.train, batch_size=8)
        callbacks = [AveragedWeights(0.8, every, start), seen, BestCheckpoint("val/loss"), LastCheckpoint()]
        make_trainer(callbacks, max_epochs=epochs).fit(model, data, ckpt_path=checkpoint)
        trained.append(model)
        return seen.losses

    trained: list[Any] = []
    last = tmp_path / "run/checkpoints/last.ckpt"
    losses = fit(4) if resume_after is None else fit(resume_after) + fit(4, last)
    model = small()
    model.net[2] = nn.Identity()
    plain, used, expected = _plain_loop(model.net, blobs(), 4, 0.8, every, start)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-6)
    kept = torch.load(last, weights_only=True)
    best = torch.load(last.with_name("best.ckpt"), weights_only=True)
    assert best["epoch"] == expected.index(min(expected))
    for name, weight in used.items():
        torch.testing.assert_close(kept["state_dict"][f"net.{name}"], weight)
        torch.testing.assert_close(kept["current_model_state"][f"net.{name}"], plain[name])
        torch.testing.assert_close(trained[-1].net.state_dict()[name], weight)


def test_a_run_that_ends_within_an_epoch_keeps_the_plain_weights(make_trainer, small, blobs, tmp_path) -> None:
    model, last = small(lr=0.5), tmp_path / "run/checkpoints/last.ckpt"
    seen: list[Tensor] = []

    def stop(*_: Any) -> None:
        seen.append(model.net[0].weight.detach().clone())
        model.trainer.should_stop = len(seen) == 3

    model.on_train_batch_end = stop
    trainer = make_trainer([AveragedWeights(decay=0.9), LastCheckpoint()], max_steps=20, min_epochs=0)
    trainer.fit(model, blobs())
    kept = torch.load(last, weights_only=True)
    assert torch.equal(kept["current_model_state"]["net.0.weight"], seen[-1])
    assert not torch.equal(kept["state_dict"]["net.0.weight"], seen[-1])


def test_steps_that_pass_an_update_do_not_skip_it() -> None:
    callback, updates = AveragedWeights(every=4, start_step=3), []
    for steps in range(2, 30, 2):  # two optimizer steps per batch: the newest step is always odd
        if callback.should_update(step_idx=steps - 1):
            callback.load_state_dict({"latest_update_step": steps})
            updates.append(steps - 1)
    assert updates == [3, 7, 11, 15, 19, 23, 27]


def test_a_validation_after_fit_scores_the_given_checkpoint(make_trainer, small, blobs, tmp_path) -> None:
    trainer = make_trainer([AveragedWeights(decay=0.9), BestCheckpoint("val/loss")], max_epochs=1)
    model, data = small(lr=0.5), blobs()
    trainer.fit(model, data)
    best = tmp_path / "run/checkpoints/best.ckpt"
    kept = torch.load(best, weights_only=True)["state_dict"]
    scored: dict[str, Tensor] = {}
    model.on_validation_epoch_end = lambda: scored.update({k: v.clone() for k, v in model.state_dict().items()})
    trainer.validate(model, data, ckpt_path=best, weights_only=True, verbose=False)
    assert all(torch.equal(scored[name], kept[name]) for name in kept)


@pytest.mark.parametrize("settings", [{"decay": 1.0}, {"decay": -0.1}, {"every": 0}, {"start_step": -1}])
def test_invalid_arguments_are_named(settings) -> None:
    with pytest.raises(MisconfigurationException, match=next(iter(settings))):
        AveragedWeights(**settings)


class _Corner(LightningModule):
    """Classifier that predicts class 1 if the upper left pixel is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.dummy = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        bright = x[:, 0, 0, 0]
        return torch.stack((torch.full_like(bright, 0.4), bright), dim=1) + self.dummy * 0

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test/acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())


def test_averaged_views_are_logged_next_to_the_plain_accuracy(make_trainer) -> None:
    images = torch.zeros(4, 1, 4, 4)
    images[0, 0, 0, 0] = 1.0  # bright in one corner: the average over both views is 0.5, above 0.4
    images[1, 0, 0, -1] = 0.6  # bright in the mirrored corner only: the average is 0.3
    images[2, 0, 0, [0, -1]] = 1.0
    data = DataLoader(TensorDataset(images, torch.tensor([1, 1, 1, 0])), batch_size=3)
    (figures,) = make_trainer([AveragedViews()]).test(_Corner(), data, verbose=False)
    assert figures == {"test/acc": 0.75, "test/acc_mirror": 0.75}
    images[1, 0, 0, -1] = 1.0
    (figures,) = make_trainer([AveragedViews()]).test(_Corner(), data, verbose=False)
    assert figures == {"test/acc": 0.75, "test/acc_mirror": 1.0}


class _OneLogit(_Corner):
    """The same classifier with one logit for two classes."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits[:, 1:] - logits[:, :1]


def test_one_logit_is_supported_for_two_classes(make_trainer) -> None:
    images = torch.zeros(4, 1, 4, 4)
    images[:3, 0, 0, :] = 1.0
    target = torch.tensor([1, 1, 0, 0])
    for model, labels in ((_Corner(), target), (_OneLogit(), target), (_OneLogit(), target.float().unsqueeze(1))):
        model.test_step = lambda *_: None
        data = DataLoader(TensorDataset(images, labels), batch_size=3)
        (figures,) = make_trainer([AveragedViews()]).test(model, data, verbose=False)
        assert figures == {"test/acc_mirror": 0.75}


def test_shifted_views_have_the_documented_weights() -> None:
    seed_everything(0, verbose=False)
    images = torch.rand(2, 1, 5, 5)
    model = _Corner()
    padded = nn.functional.pad(images, (1, 1, 1, 1), mode="reflect")
    corners = [(1, 1, 0.5), (2, 2, 0.25), (0, 0, 0.25)]  # upper left corner of the window, and its weight
    expected = sum(
        share * 0.5 * (padded[:, 0, row, column] + padded[:, 0, row, column + 4]) for row, column, share in corners
    )
    torch.testing.assert_close(averaged_logits(model, images, "shift")[:, 1], expected)


def test_inputs_that_are_not_images_raise_an_error(make_trainer, small, blobs) -> None:
    with pytest.raises(MisconfigurationException, match="inputs must be images"):
        make_trainer([AveragedViews()]).test(small(), blobs(), verbose=False)
