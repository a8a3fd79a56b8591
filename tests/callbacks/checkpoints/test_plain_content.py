"""The pass over a checkpoint: NumPy numbers become plain, other values are named, and the SHA-256 covers all values."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from callbacks.checkpoints.plain_content import as_plain

TENSORS = {
    "bfloat16": torch.randn(3, 2).bfloat16(),
    "transposed": torch.randn(3, 2).T,
    "channels last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "bool": torch.tensor([True, False]),
    "complex": torch.randn(3, dtype=torch.complex64),
    "conjugate": torch.randn(3, dtype=torch.complex64).conj(),
    "sparse": torch.eye(3).to_sparse(),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "view": torch.arange(10.0)[3:6],
}
VALUES: dict[str, Any] = {
    **TENSORS,
    "text": "\udcffü\n",
    "bytes": b"\x00\xff",
    "numbers": [1, 2.5, float("nan"), float("inf"), 2**70, -0.0, True, None],
    "tuple": (3, (1, 2), None),
    "set": {"b", "a", "c"},
    "ordered": OrderedDict(a=torch.ones(1), b=OrderedDict()),
    "module": torch.nn.BatchNorm1d(2).state_dict(),
    "dtype": [torch.float32, torch.Size((1, 2)), torch.device("cpu"), 1j],
    "keys": {0: 1, "a": torch.ones(1), (1, 2): [3], None: 4},
}


def loaded(value: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.filterwarnings("ignore")  # quantized tensors are deprecated
@pytest.mark.parametrize("name", [*VALUES, "quantized"])
def test_the_sum_is_that_of_the_loaded_value(name: str) -> None:
    value = VALUES.get(name)
    if name == "quantized":
        value = torch.quantize_per_tensor(torch.randn(3), 0.1, 0, torch.qint8)
    content = {"value": value, "next": [value]}
    plain, sha256 = as_plain(content)
    assert plain is content, "nothing is copied"
    assert as_plain(loaded(content))[1] == sha256


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2], [2, 1]), ([1], (1,)), (1, 1.0), (1, True), ("1", 1), (None, "None"), ({"a": 1}, {"b": 1}),
        ({"a": {}}, {"a": []}), ([[1], 2], [[1, 2]]), (0.0, -0.0), (torch.zeros(2), torch.zeros(1, 2)),
        (torch.zeros(2), torch.zeros(2).int()), (torch.zeros(2), -torch.zeros(2)), (["a", "b"], ["a;b"]),
        ([torch.ones(1), torch.zeros(1)], [torch.zeros(1), torch.ones(1)]), ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)  # fmt: skip
def test_other_values_have_another_sum(one: Any, other: Any) -> None:
    assert as_plain(one)[1] != as_plain(other)[1]


def test_numbers_of_numpy_become_plain_ones() -> None:
    content = {
        "rates": [np.float32(0.5), (np.int64(3), "x")],
        "state": OrderedDict([(np.int64(1), np.bool_(True)), ("name", np.str_("a"))]),
        "weights": torch.ones(2),
    }
    plain, sha256 = as_plain(content)
    assert plain["rates"] == [0.5, (3, "x")]
    assert type(plain["state"]) is OrderedDict
    assert plain["state"] == {1: True, "name": "a"}
    assert [type(key) for key in plain["state"]] == [int, str]
    assert plain["weights"] is content["weights"]
    assert type(content["rates"][0]) is np.float32, "the owner keeps its value"
    assert as_plain(loaded(plain))[1] == sha256


class Own:
    """A class of the user."""


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"lr_schedulers": [{"history": np.zeros(2)}]}, "lr_schedulers[0].history must"),
        ({"callbacks": {"Mine{'a': 1}": {"best": Own()}}}, "callbacks[\"Mine{'a': 1}\"].best must"),
        ({"a": (1, [np.datetime64("2020")])}, "a[1][0] must"),
        ({"a": {3: lambda: 0}}, "a[3] must"),
        ({"a": {"b": np.longdouble(1)}}, "a.b must"),
    ],
)
def test_a_value_that_cannot_be_loaded_is_named(content: Any, name: str) -> None:
    with pytest.raises(MisconfigurationException) as caught:
        as_plain(content)
    assert f"checkpoint: {name} be plain data or tensors, got " in str(caught.value)
