"""The augmentation of a datamodule: its chain, what it depends on, and the mistakes it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from datamodules import DigitsDataModule, PixelDataModule
from datamodules.augmentation.chain import AugmentedRows
from datamodules.augmentation.geometry import Crop, Flip
from datamodules.augmentation.mix import CutMix, MixUp, beta_quantile, beta_table
from datamodules.augmentation.specs import NAMES
from datamodules.augmentation.transform import Draw
from datamodules.serving.batches import Batch, Batches, Chosen

GENERATOR = torch.Generator()
FITTING: dict[str, Any] = {name: name for name in NAMES} | {"resize": {"name": "resize", "size": 8}}
ALL = [step for name, step in FITTING.items() if name not in ("mixup", "cutmix")]


class Colours(PixelDataModule):
    """Random colour images, 160 for training."""

    input_shape = (3, 10, 14)
    num_classes = 4
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)

    def load_part(self, part: Any) -> Batch:
        """Training and test images."""
        images = torch.randint(
            0, 256, (200, *self.input_shape), dtype=torch.uint8, generator=GENERATOR.manual_seed(len(part))
        )
        return images, torch.arange(200) % 4


def module(augment: Any, **options: Any) -> Colours:
    """A datamodule that is set up."""
    torch.manual_seed(0)
    made = Colours(augment=augment, batch_size=32, **options)
    made.setup("fit")
    return made


def batches(augment: Any, **options: Any) -> Batches:
    """The training batches, on this rank."""
    made = module(augment)
    inputs, targets = made.load_part("train")
    preparation = made.preparation(True)
    preparation.allow_copies(options.pop("copies", False))
    preparation.channels_last = options.pop("channels_last", False)  # type: ignore[attr-defined]
    return Batches(inputs, targets, 32, preparation=preparation, shuffle=True, seed=7, **options)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "augment",
    [
        ["crop"],
        ["flip"],
        ["crop", "flip"],
        ["flip", "crop"],
        [{"name": "crop", "padding": 2, "mode": "reflect"}, {"name": "flip", "mode": "alternating"}],
        [{"name": "flip", "mode": "alternating"}, {"name": "crop", "padding": 1}, "cutout"],
        ["crop", "flip", "color_jitter", "noise", "cutmix"],
    ],
    ids=str,
)
def test_one_gather_gives_what_the_steps_give(augment: Any, channels_last: bool) -> None:
    steps = batches(augment, copies=False, channels_last=channels_last)
    gather = batches(augment, copies=True, channels_last=channels_last)
    assert gather.preparation.extra_bytes(gather.inputs) > 0
    for epoch in range(2):
        for index in range(len(steps)):
            for ours, theirs in zip(gather.make(epoch, index), steps.make(epoch, index), strict=True):
                assert torch.equal(ours, theirs)
                assert ours.stride() == theirs.stride()


def test_the_store_of_another_part_is_not_taken_for_the_copied_one() -> None:
    preparation = module(["crop", "flip"]).preparation(True)
    preparation.allow_copies(True)
    first, second = (torch.randint(0, 256, (8, 3, 10, 14), dtype=torch.uint8) for _ in range(2))
    numbers, targets = torch.full((8, 3), 0.999), torch.zeros(8, dtype=torch.int64)
    made = [preparation(store, targets, Chosen(torch.arange(8), numbers))[0] for store in (first, second)]
    assert not torch.equal(made[0], made[1])


def test_a_copy_that_is_large_beside_the_data_is_not_wanted() -> None:
    preparation = module(["crop", "flip"]).preparation(True)
    assert preparation.extra_bytes(torch.empty((1000, 3, 10, 14), dtype=torch.uint8)) > 0
    assert preparation.extra_bytes(torch.empty((1_000_000, 3, 10, 14), dtype=torch.uint8, device="meta")) == 0
    assert module(["cutout", "flip"]).preparation(True).extra_bytes(torch.empty(9, 3, 10, 14)) == 0


@pytest.mark.parametrize("name", [*NAMES, "all"])
def test_the_batch_is_the_same_for_every_number_of_ranks(name: str) -> None:
    augment = [*ALL, "mixup", "cutmix"] if name == "all" else [FITTING[name]]
    alone = batches(augment)
    ranks = [batches(augment, rank=rank, world_size=3) for rank in range(3)]
    for index in (0, 3, len(alone) - 1):
        parts = [rank.make(1, index) for rank in ranks]
        for ours, whole in zip(zip(*parts, strict=True), alone.make(1, index), strict=True):
            assert torch.allclose(torch.cat(ours), whole, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "resize"])  # which draws nothing
def test_each_sample_draws_for_itself_anew_in_every_epoch_and_the_same_again(name: str) -> None:
    made = module([{"name": name, "p": 1.0} if name in ("erasing", "perspective") else name])
    image = torch.rand(1, 3, 10, 14).mul(255).to(torch.uint8)
    inputs = image.expand(64, -1, -1, -1).contiguous()
    if name in ("mixup", "cutmix"):
        inputs[::2] = 0
    served = Batches(inputs, torch.arange(64) % 4, 64, preparation=made.preparation(True), shuffle=True, seed=1)
    first, second, again = (served.make(epoch, 0)[0] for epoch in (0, 1, 0))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert len(first.flatten(1).unique(dim=0)) > 1


@pytest.mark.parametrize("name", [*NAMES, "all"])
@pytest.mark.parametrize("copies", [False, True])
def test_no_step_waits_for_the_device(name: str, copies: bool) -> None:
    """Tensors without values: whatever depends on one, .item() or an index of unknown length, raises here."""
    augment = [*ALL, "mixup", "cutmix"] if name == "all" else ["crop", "flip", FITTING[name]]
    preparation = module(augment).preparation(True)
    preparation.allow_copies(copies)
    with FakeTensorMode(allow_non_fake_inputs=True):
        inputs = torch.empty((50, 3, 10, 14), dtype=torch.uint8)
        targets = torch.empty(50, dtype=torch.int64)
        rows, numbers = torch.empty(16, dtype=torch.int64), torch.empty(16, preparation.columns)
        images, _ = preparation(inputs, targets, Chosen(rows, numbers, 5, 1))
    assert images.shape == (16, 3, 10, 14)


def test_a_step_that_waits_would_be_found_out() -> None:
    with FakeTensorMode(), pytest.raises(Exception, match=r"aten\.(nonzero|_local_scalar_dense)"):
        torch.empty(4)[torch.empty(4) > 0].sum().item()


def test_alternating_flip_turns_every_image_in_every_epoch() -> None:
    image = torch.arange(140, dtype=torch.uint8).view(1, 1, 10, 14).expand(200, 3, -1, -1).contiguous()
    served = batches([{"name": "flip", "mode": "alternating"}])
    served.inputs = image
    turned = []
    for epoch in range(4):
        first = torch.full((200,), -1)
        for index, rows in enumerate(served.order(epoch).split(32)):
            pixels = served.make(epoch, index)[0]
            first[rows] = (pixels[:, 0, 0, 0] > pixels[:, 0, 0, 13]).long()
        turned.append(first)
    assert torch.equal(turned[0], turned[2])
    assert torch.equal(turned[0], 1 - turned[1])
    assert torch.equal(turned[1], turned[3])
    assert 70 < int(turned[0].sum()) < 130
    flip = Flip(mode="alternating")
    samples = torch.arange(200)
    other = flip.parameters(Draw(torch.empty(200, 0), samples, 10, 14, run_seed=8))[0]
    assert 70 < int((other ^ turned[0].bool()).sum()) < 130


def test_places_of_the_crop_are_equally_likely() -> None:
    numbers = torch.rand(81_000, 2)
    top, left = Crop(4).parameters(Draw(numbers, torch.arange(81_000), 28, 28))
    counts = (top * 9 + left).bincount(minlength=81).double()
    assert len(counts) == 81
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 124.8  # chi-square, 80 degrees of freedom, level 0.001
    edge = torch.full((1, 2), 1 - 2**-24)
    for padding in range(1, 70):
        assert int(Crop(padding).parameters(Draw(edge, torch.zeros(1), 28, 28))[0]) == 2 * padding


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0, 2.0, 8.0])
def test_shares_of_a_mix_are_beta_distributed(alpha: float) -> None:
    from scipy.stats import beta  # a dependency of scikit-learn

    numbers = torch.linspace(0, 1 - 2**-24, 10_001)
    ours = beta_quantile(numbers, alpha, beta_table(alpha))
    gap = (ours.double() - torch.from_numpy(beta.ppf(numbers.double().numpy(), alpha, alpha))).abs()
    assert float(gap.max()) < 5e-3  # at the far ends of narrow distributions
    assert float(gap.mean()) < 5e-5


def test_cutmix_targets_are_the_exact_areas() -> None:
    images = torch.arange(40).float().view(-1, 1, 1, 1).expand(-1, 3, 10, 14)
    labels = torch.arange(40) % 4
    mix = CutMix()
    mixed, targets = mix.apply(
        (images, labels), mix.parameters(Draw(torch.rand(40, 4), torch.arange(40), 10, 14)), num_classes=4
    )
    own = (mixed == images).double().mean((1, 2, 3))
    assert 0 < float(own.min()) < float(own.max()) <= 1
    assert torch.allclose(targets.double().gather(1, labels.unsqueeze(1)).squeeze(1), own, atol=1e-6)
    assert torch.allclose(targets.sum(1), torch.ones(40))


@pytest.mark.parametrize("form", ["index", "one_hot"])
def test_mixed_targets_are_soft_in_training_and_as_asked_in_validation(form: Any) -> None:
    made = module(["mixup"], target_form=form, val_split=40)
    x, y = next(iter(made.train_dataloader()))
    assert (x.dtype, y.dtype, y.shape) == (torch.float32, torch.float32, (32, 4))
    assert ((y > 0) & (y < 1)).any()
    assert torch.allclose(y.sum(1), torch.ones(32))
    _, y = next(iter(made.val_dataloader()))
    assert y.dtype == (torch.int64 if form == "index" else torch.float32)


def test_without_its_probability_nothing_is_mixed() -> None:
    images, labels = torch.rand(8, 3, 10, 14), torch.arange(8) % 4
    draw = Draw(torch.rand(8, 4), torch.arange(8), 10, 14)
    for mix in (MixUp(p=0), CutMix(p=0)):
        mixed, targets = mix.apply((images, labels), mix.parameters(draw), 4)
        assert torch.equal(mixed, images)
        assert torch.equal(targets.argmax(1), labels)


def test_only_training_batches_are_augmented() -> None:
    made, plain = (module(augment, val_split=40) for augment in ([{"name": "crop", "padding": 3}, "noise"], []))
    assert isinstance(made.preparation(True), AugmentedRows)
    for name in ("val_dataloader", "test_dataloader"):
        ours, theirs = (torch.cat([x for x, _ in getattr(one, name)()]) for one in (made, plain))
        assert torch.equal(ours, theirs)
    ours, theirs = (next(iter(one.train_dataloader()))[0] for one in (made, plain))
    assert not torch.equal(ours, theirs)


def test_a_users_own_normalisation_ends_the_chain() -> None:
    class Own(Colours):
        def prepare_batch(self, inputs: Tensor, targets: Tensor) -> Batch:
            return inputs.float() - 1000, targets

    torch.manual_seed(0)
    for augment in (["crop"], ["rotation"], []):
        made = Own(augment=augment, batch_size=32)
        x, _ = next(iter(made.train_dataloader()))
        assert -1000 <= float(x.min()) < float(x.max()) <= -744


def test_channels_last_changes_the_layout_and_nothing_else() -> None:
    for augment in ([], ["crop", "flip"], ["blur"], ["cutmix"]):
        rows, last = (batches(augment, channels_last=value).make(0, 0)[0] for value in (False, True))
        assert torch.allclose(rows, last, atol=1e-6)
        assert rows.is_contiguous()
        assert last.is_contiguous(memory_format=torch.channels_last)
    digits = DigitsDataModule().preparation(True)
    digits.channels_last = True  # type: ignore[attr-defined]
    store = torch.zeros(5, 1, 8, 8, dtype=torch.uint8)
    x, _ = digits(store, torch.zeros(5), Chosen(torch.arange(5)))
    assert x.stride() == torch.empty(5, 1, 8, 8).to(memory_format=torch.channels_last).stride()


def test_a_store_in_channels_last_layout_gives_the_same_batches() -> None:
    for augment in ([], ["crop", "flip"]):
        rows, last = batches(augment), batches(augment, channels_last=True)
        last.inputs = last.inputs.contiguous(memory_format=torch.channels_last)
        assert torch.equal(rows.make(0, 1)[0], last.make(0, 1)[0])
