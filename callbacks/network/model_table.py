"""Callback that prints a table of the layers before training."""

import warnings
from dataclasses import dataclass, field

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.utilities.model_summary.model_summary import ModelSummary as LayerSummary
from lightning.pytorch.utilities.model_summary.model_summary import get_human_readable_count
from torch import nn

from callbacks.forward import describe_error, example_input, isolated_forward
from callbacks.network.layers import is_metric_or_loss
from callbacks.step_hooks import NoStepHooks

_MAX_ROWS = 15
_NOT_COUNTED = "not counted"


@dataclass
class _Row:
    name: str
    kind: str
    shape_in: str
    shape_out: str
    parameters: int
    flops: int
    uncounted: list[str] = field(default_factory=list)  # types of the recurrent layers without FLOPs

    def cells(self) -> list[str]:
        flops = [_count(self.flops)] if self.flops or not self.uncounted else []
        text = " + ".join([*flops, _NOT_COUNTED] if self.uncounted else flops)
        return [self.name, self.kind, self.shape_in, self.shape_out, f"{self.parameters:,}", text]


class ModelTable(NoStepHooks, ModelSummary):
    """Table of the layers with shapes, parameters and FLOPs per sample, without metrics and losses.

    | printed            | what                                                                    | when         |
    |--------------------|-------------------------------------------------------------------------|--------------|
    | one line per layer | name, type, input and output shape, parameters, FLOPs of a forward pass | start of fit |
    | last line          | all and trainable parameters, FLOPs per sample (multiply-add: 2 FLOPs)  | start of fit |

    The table has at most 15 rows; deeper layers are merged into their parent. Recurrent layers that torch's counter
    does not support are marked "not counted". Shapes and FLOPs need `example_input_array`.
    """

    changes_training = False

    def __init__(self, max_rows: int = _MAX_ROWS) -> None:
        super().__init__(max_depth=-1)
        self._max_rows = max_rows

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        try:
            text = self.table(pl_module)
        except Exception as error:  # forward() of the user may raise any error
            text = (
                f"No model table: the forward pass of example_input_array failed ({describe_error(error)}). Check it."
            )
        if trainer.is_global_zero:
            print(text, flush=True)

    def table(self, model: LightningModule) -> str:
        """Return the table as text."""
        original, sample = model.example_input_array, example_input(model)
        try:
            # Lightning's summary does not convert the example to the dtype of the weights, for example under 64-true.
            model.example_input_array = sample
            with isolated_forward(model), warnings.catch_warnings():
                # It warns about the size in MB, which this table does not show.
                warnings.filterwarnings("ignore", message="Precision .* is not supported by the model summary")
                summary = LayerSummary(model, max_depth=-1)
        finally:
            model.example_input_array = original
        samples = int(sample.shape[0]) if hasattr(sample, "shape") and sample.ndim else 1
        rows = {name: _row(model, summary, index, samples) for index, name in enumerate(summary.layer_names)}
        shown = _choose(model, rows, self._max_rows)
        rest = summary.total_parameters - sum(row.parameters for row in shown)
        lines = [["layer", "type", "in", "out", "parameters", "FLOPs/sample"], *(row.cells() for row in shown)]
        lines += [["(other)", "", "", "", f"{rest:,}", ""]] if rest > 0 else []
        total = f"{summary.total_parameters:,} parameters, {summary.trainable_parameters:,} trainable"
        if sample is None:
            return _align([[name, kind, parameters] for name, kind, _, _, parameters, _ in lines], total)
        missing = sorted({kind for row in rows.values() for kind in row.uncounted})
        without = f" ({', '.join(missing)} {_NOT_COUNTED})" if missing else ""
        flops = _count(summary.total_flops // samples)
        return _align(lines, f"{total}; {flops} FLOPs for one sample, forward{without}")


def _row(model: LightningModule, summary: LayerSummary, index: int, samples: int) -> _Row:
    name = summary.layer_names[index]
    counts = summary.flop_counts
    # A recurrent layer with 0 FLOPs ran a fused kernel that torch's counter does not support.
    uncounted = [
        type(layer).__name__
        for path, layer in model.get_submodule(name).named_modules(prefix=name)
        if isinstance(layer, nn.RNNBase) and not sum(counts.get(path, {}).values())
    ]
    shapes = _shape(summary.in_sizes[index]), _shape(summary.out_sizes[index])
    flops = sum(counts[name].values()) // samples
    return _Row(name, summary.layer_types[index], *shapes, summary.param_nums[index], flops, uncounted)


def _choose(model: LightningModule, rows: dict[str, _Row], limit: int) -> list[_Row]:
    """Return the rows of the deepest level of the module tree with at most `limit` rows."""

    def is_layer(row: _Row) -> bool:
        return bool(row.parameters) or not (is_metric_or_loss(model.get_submodule(row.name)) or row.shape_out == "?")

    rows = {name: row for name, row in rows.items() if is_layer(row)}
    for depth in range(max((name.count(".") + 1 for name in rows), default=1), 0, -1):
        cut = _cut(rows, depth)
        if len(cut) <= limit:
            return cut
        with_parameters = [row for row in cut if row.parameters]
        if depth > 1 and 1 < len(with_parameters) <= limit:
            return with_parameters
    cut = _cut(rows, 1)
    tail = cut[limit - 1 :]
    more = _Row(f"({len(tail)} more)", "", "", "", sum(row.parameters for row in tail), sum(row.flops for row in tail))
    return [*cut[: limit - 1], more]


def _cut(rows: dict[str, _Row], depth: int) -> list[_Row]:
    """Return the rows at `depth`, and those above it without children."""
    parents = {name.rpartition(".")[0] for name in rows}
    return [
        row
        for name, row in rows.items()
        if (level := name.count(".") + 1) == depth or (level < depth and name not in parents)
    ]


def _shape(size: object) -> str:
    """Format a shape, or the first of several, without the batch dimension: [1, 3, 32, 32] -> 3x32x32; else '?'."""
    if isinstance(size, list) and size and all(isinstance(n, int) for n in size):
        return "x".join(str(n) for n in size[1:]) or "1"
    return _shape(size[0]) if isinstance(size, list) and size and isinstance(size[0], list) else "?"


def _count(number: int) -> str:
    return get_human_readable_count(number).strip()


def _align(lines: list[list[str]], last: str) -> str:
    columns = []
    for column in zip(*lines, strict=True):
        width, pad = max(map(len, column)), str.rjust if column[0] == "parameters" else str.ljust
        columns.append([pad(cell, width) for cell in column])
    return "\n".join([*("  ".join(row).rstrip() for row in zip(*columns, strict=True)), last])
