"""Image batches: transforms in order, reproducibility, memory layout and mixing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from datamodules import DigitsDataModule, PixelDataModule
from datamodules.augmentation.geometry import Crop, Flip
from datamodules.augmentation.image_preparation import AugmentedPreparation
from datamodules.augmentation.mix import CutMix, MixUp, beta_quantile, beta_table
from datamodules.augmentation.specs import TRANSFORMS
from datamodules.augmentation.transform import TransformContext
from datamodules.serving.batches import Batch, Batches, Selection

GENERATOR = torch.Generator()
FITTING: dict[str, Any] = {name: name for name in TRANSFORMS} | {"resize": {"name": "resize", "size": 8}}
ALL = [step for name, step in FITTING.items() if name not in ("mixup", "cutmix")]


class RandomImages(PixelDataModule):
    """Random color images, 160 for training."""

    input_shape = (3, 10, 14)
    num_classes = 4
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)

    def load_part(self, part: Any) -> Batch:
        """Return training or test images."""
        images = torch.randint(
            0, 256, (200, *self.input_shape), dtype=torch.uint8, generator=GENERATOR.manual_seed(len(part))
        )
        return images, torch.arange(200) % 4


def module(augment: Any, **options: Any) -> RandomImages:
    """Return a datamodule after `setup`."""
    torch.manual_seed(0)
    made = RandomImages(augment=augment, batch_size=32, **options)
    made.setup("fit")
    return made


def batches(augment: Any, **options: Any) -> Batches:
    """Return the training batches of one rank."""
    made = module(augment)
    inputs, targets = made.load_part("train")
    preparation = made.preparation(True)
    preparation.use_copies = options.pop("copies", False)
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
def test_the_fused_gather_equals_the_separate_transforms(augment: Any, channels_last: bool) -> None:
    steps = batches(augment, copies=False, channels_last=channels_last)
    gather = batches(augment, copies=True, channels_last=channels_last)
    assert gather.preparation.copy_bytes(gather.inputs) > 0
    for epoch in range(2):
        for index in range(len(steps)):
            for ours, theirs in zip(gather.make(epoch, index), steps.make(epoch, index), strict=True):
                assert torch.equal(ours, theirs)
                assert ours.stride() == theirs.stride()


def test_the_copy_is_not_used_for_other_data() -> None:
    preparation = module(["crop", "flip"]).preparation(True)
    preparation.use_copies = True
    first, second = (torch.randint(0, 256, (8, 3, 10, 14), dtype=torch.uint8) for _ in range(2))
    numbers, targets = torch.full((8, 3), 0.999), torch.zeros(8, dtype=torch.int64)
    made = [preparation(images, targets, Selection(torch.arange(8), numbers))[0] for images in (first, second)]
    assert not torch.equal(made[0], made[1])


def test_a_copy_much_larger_than_the_data_is_not_made() -> None:
    preparation = module(["crop", "flip"]).preparation(True)
    assert preparation.copy_bytes(torch.empty((1000, 3, 10, 14), dtype=torch.uint8)) > 0
    assert preparation.copy_bytes(torch.empty((1_000_000, 3, 10, 14), dtype=torch.uint8, device="meta")) == 0
    assert module(["cutout", "flip"]).preparation(True).copy_bytes(torch.empty(9, 3, 10, 14)) == 0


@pytest.mark.parametrize("name", [*TRANSFORMS, "all"])
def test_the_batch_is_the_same_for_every_number_of_ranks(name: str) -> None:
    augment = [*ALL, "mixup", "cutmix"] if name == "all" else [FITTING[name]]
    alone = batches(augment)
    ranks = [batches(augment, rank=rank, world_size=3) for rank in range(3)]
    for index in (0, 3, len(alone) - 1):
        parts = [rank.make(1, index) for rank in ranks]
        for ours, full in zip(zip(*parts, strict=True), alone.make(1, index), strict=True):
            assert torch.allclose(torch.cat(ours), full, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name != "resize"])  # which is not random
def test_random_parameters_differ_by_sample_and_epoch_and_repeat(name: str) -> None:
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


@pytest.mark.parametrize("name", [*TRANSFORMS, "all"])
@pytest.mark.parametrize("copies", [False, True])
def test_no_transform_waits_for_the_device(name: str, copies: bool) -> None:
    """Fake tensors have no values, so .item() or an index of unknown length raises an error."""
    augment = [*ALL, "mixup", "cutmix"] if name == "all" else ["crop", "flip", FITTING[name]]
    preparation = module(augment).preparation(True)
    preparation.use_copies = copies
    with FakeTensorMode(allow_non_fake_inputs=True):
        inputs = torch.empty((50, 3, 10, 14), dtype=torch.uint8)
        targets = torch.empty(50, dtype=torch.int64)
        rows, numbers = torch.empty(16, dtype=torch.int64), torch.empty(16, preparation.num_uniforms)
        images, _ = preparation(inputs, targets, Selection(rows, numbers, 5, 1))
    assert images.shape == (16, 3, 10, 14)


def test_waiting_for_the_device_would_be_detected() -> None:
    with FakeTensorMode(), pytest.raises(Exception, match=r"aten\.(nonzero|_local_scalar_dense)"):
        torch.empty(4)[torch.empty(4) > 0].sum().item()


def test_alternating_flip_flips_every_image_in_every_epoch() -> None:
    image = torch.arange(140, dtype=torch.uint8).view(1, 1, 10, 14).expand(200, 3, -1, -1).contiguous()
    served = batches([{"name": "flip", "mode": "alternating"}])
    served.inputs = image
    flipped = []
    for epoch in range(4):
        first = torch.full((200,), -1)
        for index, rows in enumerate(served.order(epoch).split(32)):
            pixels = served.make(epoch, index)[0]
            first[rows] = (pixels[:, 0, 0, 0] > pixels[:, 0, 0, 13]).long()
        flipped.append(first)
    assert torch.equal(flipped[0], flipped[2])
    assert torch.equal(flipped[0], 1 - flipped[1])
    assert torch.equal(flipped[1], flipped[3])
    assert 70 < int(flipped[0].sum()) < 130
    flip = Flip(mode="alternating")
    samples = torch.arange(200)
    other = flip.parameters(TransformContext(torch.empty(200, 0), samples, 10, 14, run_seed=8))[0]
    assert 70 < int((other ^ flipped[0].bool()).sum()) < 130


def test_crop_positions_are_equally_likely() -> None:
    numbers = torch.rand(81_000, 2)
    top, left = Crop(4).parameters(TransformContext(numbers, torch.arange(81_000), 28, 28))
    counts = (top * 9 + left).bincount(minlength=81).double()
    assert len(counts) == 81
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 124.8  # chi-square, 80 degrees of freedom, level 0.001
    edge = torch.full((1, 2), 1 - 2**-24)
    for padding in range(1, 70):
        assert int(Crop(padding).parameters(TransformContext(edge, torch.zeros(1), 28, 28))[0]) == 2 * padding


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0, 2.0, 8.0])
def test_mix_weights_are_beta_distributed(alpha: float) -> None:
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
        (images, labels), mix.parameters(TransformContext(torch.rand(40, 4), torch.arange(40), 10, 14)), num_classes=4
    )
    own = (mixed == images).double().mean((1, 2, 3))
    assert 0 < float(own.min()) < float(own.max()) <= 1
    assert torch.allclose(targets.double().gather(1, labels.unsqueeze(1)).squeeze(1), own, atol=1e-6)
    assert torch.allclose(targets.sum(1), torch.ones(40))


@pytest.mark.parametrize("form", ["index", "one_hot"])
def test_mixed_targets_are_soft_in_training_only(form: Any) -> None:
    made = module(["mixup"], target_form=form, val_split=40)
    x, y = next(iter(made.train_dataloader()))
    assert (x.dtype, y.dtype, y.shape) == (torch.float32, torch.float32, (32, 4))
    assert ((y > 0) & (y < 1)).any()
    assert torch.allclose(y.sum(1), torch.ones(32))
    _, y = next(iter(made.val_dataloader()))
    assert y.dtype == (torch.int64 if form == "index" else torch.float32)


def test_probability_zero_mixes_nothing() -> None:
    images, labels = torch.rand(8, 3, 10, 14), torch.arange(8) % 4
    context = TransformContext(torch.rand(8, 4), torch.arange(8), 10, 14)
    for mix in (MixUp(p=0), CutMix(p=0)):
        mixed, targets = mix.apply((images, labels), mix.parameters(context), 4)
        assert torch.equal(mixed, images)
        assert torch.equal(targets.argmax(1), labels)


def test_only_training_batches_are_augmented() -> None:
    made, plain = (module(augment, val_split=40) for augment in ([{"name": "crop", "padding": 3}, "noise"], []))
    assert isinstance(made.preparation(True), AugmentedPreparation)
    for name in ("val_dataloader", "test_dataloader"):
        ours, theirs = (torch.cat([x for x, _ in getattr(one, name)()]) for one in (made, plain))
        assert torch.equal(ours, theirs)
    ours, theirs = (next(iter(one.train_dataloader()))[0] for one in (made, plain))
    assert not torch.equal(ours, theirs)


def test_a_custom_normalization_runs_after_the_transforms() -> None:
    class Custom(RandomImages):
        def prepare_batch(self, inputs: Tensor, targets: Tensor) -> Batch:
            return inputs.float() - 1000, targets

    torch.manual_seed(0)
    for augment in (["crop"], ["rotation"], []):
        made = Custom(augment=augment, batch_size=32)
        x, _ = next(iter(made.train_dataloader()))
        assert -1000 <= float(x.min()) < float(x.max()) <= -744


def test_channels_last_changes_only_the_memory_layout() -> None:
    for augment in ([], ["crop", "flip"], ["blur"], ["cutmix"]):
        rows, last = (batches(augment, channels_last=value).make(0, 0)[0] for value in (False, True))
        assert torch.allclose(rows, last, atol=1e-6)
        assert rows.is_contiguous()
        assert last.is_contiguous(memory_format=torch.channels_last)
    digits = DigitsDataModule().preparation(True)
    digits.channels_last = True  # type: ignore[attr-defined]
    images = torch.zeros(5, 1, 8, 8, dtype=torch.uint8)
    x, _ = digits(images, torch.zeros(5), Selection(torch.arange(5)))
    assert x.stride() == torch.empty(5, 1, 8, 8).to(memory_format=torch.channels_last).stride()


def test_data_in_channels_last_layout_gives_the_same_batches() -> None:
    for augment in ([], ["crop", "flip"]):
        rows, last = batches(augment), batches(augment, channels_last=True)
        last.inputs = last.inputs.contiguous(memory_format=torch.channels_last)
        assert torch.equal(rows.make(0, 1)[0], last.make(0, 1)[0])
