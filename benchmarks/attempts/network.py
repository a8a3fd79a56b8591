"""Steps of networks without a Trainer: precision and layout, small convolutions, the cifar10_fast recipe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.profiler import profile

from benchmarks.arms.raw import Machine, RawTraining
from benchmarks.arms.work import CNN, LSTM, MLP_512
from benchmarks.attempts.rounds import AttemptOptions, in_turns, show
from lit_models.parts.muon import Muon
from lit_models.parts.small_image_conv import SmallImageConv2d
from lit_models.speed_net import SpeedNet


def precision(options: AttemptOptions) -> None:
    """C6: a step of the raw loop by threads, precision and layout."""
    for what, work in (("CNN, batch 128", CNN), ("LSTM, batch 128", LSTM), ("MLP-512, batch 256", MLP_512)):
        work = work.quick() if options.quick else work
        for threads in sorted({1, options.threads}):
            torch.set_num_threads(threads)
            plain = partial(Machine, threads=threads, fused=not work.clip)
            kinds = {"float32": plain(), "bf16": plain(precision="bf16-mixed")}
            if work.config.startswith("cnn"):
                kinds["channels-last"] = plain(channels_last=True)
                kinds["bf16, channels-last"] = plain(precision="bf16-mixed", channels_last=True)
            steps = 1 if options.quick else 5
            arms: dict[str, Callable[[], object]] = {}
            for name, machine in kinds.items():
                training = RawTraining(work, (options.rounds + 1) * steps * work.batch_size, 1, machine)
                training.begin()
                arms[name] = partial(training.steps, 1)
            show(f"{what}, {threads} thread(s)", in_turns(arms, options.rounds, steps))
    torch.set_num_threads(options.threads)


def convolutions(options: AttemptOptions) -> None:
    """C10: forward and backward of a 3x3 convolution in bfloat16, with images separate and next to each other."""
    batch = 16 if options.quick else 256
    for inputs, filters, pixels in ((256, 256, 3), (256, 256, 7), (64, 256, 7), (64, 64, 15)):
        x = (
            torch.randn(batch, inputs, pixels, pixels)
            .bfloat16()
            .contiguous(memory_format=torch.channels_last)
            .requires_grad_()
        )
        together = SmallImageConv2d(inputs, filters).bfloat16().to(memory_format=torch.channels_last)
        separate = nn.Conv2d(inputs, filters, 3, padding=1, bias=False).bfloat16()
        separate = separate.to(memory_format=torch.channels_last)
        gradient = torch.randn(batch, filters, pixels, pixels).bfloat16().contiguous(memory_format=torch.channels_last)
        arms = {"separate": partial(forward_and_backward, separate, x, gradient)}
        arms["side by side"] = partial(forward_and_backward, together, x, gradient)
        what = f"{inputs} to {filters} filters, {batch} images of {pixels}x{pixels}"
        show(what, in_turns(arms, options.rounds, 1 if options.quick else 5))


def forward_and_backward(layer: nn.Module, x: Tensor, gradient: Tensor) -> None:
    """Run the forward and the backward pass of a layer."""
    layer(x).backward(gradient)


class Recipe:
    """The network and optimizer of configs/cifar10_fast.yaml, with the given changes."""

    def __init__(
        self, batch: int = 256, side_by_side: bool = True, bias: bool = False, pixels: int = 32, sgd: bool = False
    ) -> None:
        torch.manual_seed(0)
        net = SpeedNet(3, 10, [64, 256, 256], whitening_bias=bias)
        if not side_by_side:
            for parent in list(net.modules()):
                for name, child in parent.named_children():
                    if isinstance(child, SmallImageConv2d):
                        plain = nn.Conv2d(child.in_channels, child.out_channels, 3, padding=1, bias=False)
                        setattr(parent, name, plain)
        self.net = net.to(memory_format=torch.channels_last)
        trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
        self.optimizer: torch.optim.Optimizer = Muon(net.parameters(), lr=0.14)
        if sgd:
            self.optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.85, nesterov=True, fused=True)
        self.x = torch.randn(batch, 3, pixels, pixels).contiguous(memory_format=torch.channels_last)
        self.y = torch.randint(10, (batch,))

    def images(self, number: int) -> None:
        """Train on `number` images."""
        for _ in range(number // len(self.x)):
            with torch.autocast("cpu", torch.bfloat16):
                loss = cross_entropy(self.net(self.x), self.y, label_smoothing=0.2)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()


def recipe(options: AttemptOptions) -> None:
    """C10: a step of the cifar10_fast recipe with one change at a time, then the time per operation."""
    small, large = (8, 16) if options.quick else (256, 512)
    work: dict[str, Callable[[int], None]] = {
        "as shipped": Recipe(small).images,
        "small images separate": Recipe(small, side_by_side=False).images,
        "a bias in the whitening layer": Recipe(small, bias=True).images,
        "Nesterov SGD instead of Muon": Recipe(small, sgd=True).images,
        "images of 24x24": Recipe(small, pixels=24).images,
        f"batch {large}": Recipe(large).images,
    }
    arms: dict[str, Callable[[], object]] = {name: partial(one, large) for name, one in work.items()}
    show(f"{large} images", in_turns(arms, options.rounds, 1 if options.quick else 4))
    with profile() as found:
        work["as shipped"](large)
    events = sorted(found.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    print()
    for event in events[:8]:
        print(f"| {event.key} | {100 * event.self_cpu_time_total / total:.1f} % of the step |")
