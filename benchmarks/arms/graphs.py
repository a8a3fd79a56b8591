"""The raw loop with its entire step captured as a CUDA graph, from selecting the rows to the optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from benchmarks.arms.raw import Machine, RawTraining
from benchmarks.arms.work import Work


class GraphTraining(RawTraining):
    """`RawTraining` that replays full batches as a graph; other batches, and all batches without CUDA, run directly."""

    def __init__(self, work: Work, samples: int, epochs: int, machine: Machine) -> None:
        super().__init__(work, samples, epochs, machine)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.rates: list[float] = []
        self.at = 0
        if machine.device.type == "cuda":
            self._capture(epochs * len(self.batches))

    def _capture(self, steps: int) -> None:
        for _ in range(steps):  # list all learning rates, because a replayed step reads its rate from a tensor
            self.rates.append(float(self.optimizer.param_groups[0]["lr"]))
            self.scheduler.step()
        device = self.machine.device
        self.rate = torch.tensor(self.rates[0], device=device)
        kernels = {"fused": True} if self.machine.fused else {}
        self.optimizer = self.work.optimizer(self.net.parameters(), lr=self.rate, capturable=True, **kernels)
        self.rows = self.batches.rows[: self.work.batch_size].clone()
        state = {name: value.clone() for name, value in self.net.state_dict().items()}
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._graph_step()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self._graph_step()
        self.net.load_state_dict(state)  # undo the trial steps in the weights and in the state of Adam
        for moments in self.optimizer.state.values():
            for value in moments.values():
                value.zero_()

    def _graph_step(self) -> None:
        x, y = self.batches.make(self.rows)
        with self.machine.autocast():
            loss = cross_entropy(self.net(x), y)
        self.optimizer.zero_grad(set_to_none=False)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.work.clip:
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.work.clip)
        self.optimizer.step()

    def items(self) -> Iterator[Any]:
        """Return the rows of each batch if there is a graph, else the batches."""
        if self.graph is None:
            return super().items()
        return iter(torch.split(self.batches.order(), self.work.batch_size))

    def take(self, item: Any) -> None:
        """Replay the step, or run it directly for a smaller last batch of an epoch."""
        if self.graph is None:
            super().take(item)
            return
        self.rate.fill_(self.rates[self.at])
        self.at += 1
        if len(item) == self.work.batch_size:
            self.rows.copy_(item)
            self.graph.replay()
        else:
            saved, self.rows = self.rows, item
            self._graph_step()
            self.rows = saved
