"""Joined small images have the same convolution outputs and gradients as single ones."""

import pytest
import torch
from torch import Tensor, nn

from lit_models.parts.small_image_conv import SmallImageConv2d, images_per_row


def _passes(convolution: nn.Module, images: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    inputs = images.clone().requires_grad_()
    convolution.zero_grad()
    output = convolution(inputs)
    output.backward(gradient)
    assert inputs.grad is not None
    assert isinstance(convolution.weight.grad, Tensor)
    return output.detach(), inputs.grad, convolution.weight.grad.clone()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (3, 3), (7, 7), (8, 8), (5, 3), (3, 12)])
@pytest.mark.parametrize("batch", [1, 6, 64])
def test_outputs_and_gradients_equal_the_plain_convolution(batch: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    ours = SmallImageConv2d(8, 16).to(torch.bfloat16)
    plain = nn.Conv2d(8, 16, 3, padding=1, bias=False).to(torch.bfloat16)
    plain.load_state_dict(ours.state_dict())
    images = torch.randn(batch, 8, height, width).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    gradient = torch.randn(batch, 16, height, width).to(torch.bfloat16)
    found, expected = (_passes(convolution, images, gradient) for convolution in (ours, plain))
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        largest = other.abs().max()
        torch.testing.assert_close(one / largest, other / largest, atol=0.01, rtol=0.0)


def test_images_per_row_divides_the_batch_and_limits_the_row() -> None:
    assert images_per_row(512, 3) == 32
    assert images_per_row(512, 7) == 16
    assert images_per_row(12, 3) == 4
    assert images_per_row(7, 3) == 1
    assert images_per_row(512, 9) == 1


def _shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Return a list that collects the input shapes of torch's convolution."""
    seen: list[tuple[int, ...]] = []
    plain = nn.Conv2d.forward

    def forward(self: nn.Conv2d, images: Tensor) -> Tensor:
        seen.append(tuple(images.shape))
        return plain(self, images)

    monkeypatch.setattr(nn.Conv2d, "forward", forward)
    return seen


def test_small_images_are_joined_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _shapes(monkeypatch)
    with torch.autocast("cpu", torch.bfloat16):
        output = SmallImageConv2d(4, 6)(torch.randn(64, 4, 3, 3).to(torch.bfloat16))
    assert output.shape == (64, 6, 3, 3)
    assert seen == [(2, 4, 3, 128)], "32 images of 3 pixels and a column of zeros each"


def test_single_images_and_empty_batches_are_valid() -> None:
    ours = SmallImageConv2d(4, 6).to(torch.bfloat16)
    assert ours(torch.randn(4, 3, 3).to(torch.bfloat16)).shape == (6, 3, 3)
    assert ours(torch.randn(0, 4, 3, 3).to(torch.bfloat16)).shape == (0, 6, 3, 3)


def test_float32_uses_the_plain_convolution() -> None:
    ours = SmallImageConv2d(4, 4)
    images = torch.randn(8, 4, 3, 3)
    assert torch.equal(ours(images), nn.functional.conv2d(images, ours.weight, padding=1))
