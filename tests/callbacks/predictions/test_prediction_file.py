"""Tests of the CSV file of predictions."""

import csv

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, TensorDataset

from callbacks import PredictionWriter


def _rows(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class _Numbers(LightningModule):
    """Model that predicts its doubled inputs; `answer` replaces the output of predict_step."""

    def __init__(self, answer=None) -> None:
        super().__init__()
        self.answer = answer

    def predict_step(self, batch, batch_idx):
        if self.answer is not None:
            return self.answer
        return {"prediction": batch[0] * 2} | ({"target": batch[1]} if len(batch) > 1 else {})


def _loader(*tensors) -> DataLoader:
    return DataLoader(TensorDataset(*tensors), batch_size=2)


def test_predictions_of_a_classifier(make_trainer, small, blobs, tmp_path) -> None:
    path, model, data = tmp_path / "out/predictions.csv", small(), blobs()
    writer = PredictionWriter(path)
    make_trainer([writer]).predict(model, data, return_predictions=False)
    rows = _rows(path)
    assert list(rows[0]) == [
        *("sample", "target", "prediction", "target_name", "prediction_name"),
        *("p_red", "p_green", "p_blue"),
    ]
    assert [int(row["sample"]) for row in rows] == list(range(24))
    assert writer.rows_written == 24
    assert [int(row["target"]) for row in rows] == data.rest.tensors[1].tolist()
    expected = model.eval()(data.rest.tensors[0]).softmax(dim=1)
    written = torch.tensor([[float(row[f"p_{name}"]) for name in data.class_names] for row in rows])
    torch.testing.assert_close(written, expected.detach(), atol=1e-6, rtol=1e-5)
    for row in rows:
        assert row["prediction_name"] == data.class_names[int(row["prediction"])]
        assert row["target_name"] == data.class_names[int(row["target"])]
    assert [path.name for path in path.parent.iterdir()] == ["predictions.csv"]


def test_predictions_of_a_classifier_without_class_names(make_trainer, small, blobs, tmp_path) -> None:
    make_trainer([PredictionWriter(tmp_path / "p.csv")]).predict(small(), dataloaders=blobs().predict_dataloader())
    assert list(_rows(tmp_path / "p.csv")[0]) == ["sample", "target", "prediction", "p_0", "p_1", "p_2"]


def test_predictions_of_a_regression(make_trainer, tmp_path) -> None:
    x = torch.tensor([[0.1], [2.0], [1e-9]])
    make_trainer([PredictionWriter(tmp_path / "p.csv")]).predict(_Numbers(), _loader(x, -x))
    assert (tmp_path / "p.csv").read_text().split() == [
        *("sample,target,prediction", "0,-0.1,0.2", "1,-2,4", "2,-1e-09,2e-09"),
    ]


def test_several_outputs_without_a_target(make_trainer, tmp_path) -> None:
    make_trainer([PredictionWriter(tmp_path / "p.csv")]).predict(_Numbers(), _loader(torch.ones(3, 2)))
    assert (tmp_path / "p.csv").read_text().split()[:2] == ["sample,prediction_0,prediction_1", "0,2,2"]


def test_a_plain_tensor_is_the_prediction(make_trainer, tmp_path) -> None:
    for answer, lines in (
        (torch.tensor([1.5]), ["sample,prediction", "0,1.5"]),
        (torch.tensor([3]), ["sample,prediction", "0,3"]),
        (torch.tensor([[1.0, 2.0]]), ["sample,prediction_0,prediction_1", "0,1,2"]),
    ):
        make_trainer([PredictionWriter(tmp_path / "p.csv")]).predict(_Numbers(answer), _loader(torch.ones(1, 2)))
        assert (tmp_path / "p.csv").read_text().split() == lines


def test_class_names_are_escaped(make_trainer, small, blobs, tmp_path) -> None:
    data = blobs()
    data.class_names = ("\n", "\\n", "a\tb")
    make_trainer([PredictionWriter(tmp_path / "p.csv")]).predict(small(), data)
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 25
    rows = _rows(tmp_path / "p.csv")
    assert list(rows[0])[-3:] == ["p_\\n", "p_\\\\n", "p_a\\tb"]
    assert [row["target_name"] for row in rows[:3]] == ["\\n", "\\\\n", "a\\tb"]


def test_a_failed_prediction_keeps_the_old_file(make_trainer, tmp_path) -> None:
    (tmp_path / "p.csv").write_text("old")
    with pytest.raises(MisconfigurationException, match=r"predict_step of _Numbers must return a tensor .* not list"):
        make_trainer([PredictionWriter(tmp_path / "p.csv")]).predict(_Numbers([1.0]), _loader(torch.ones(3, 2)))
    assert [path.read_text() for path in tmp_path.glob("*p.csv*")] == ["old"]


def test_fast_dev_run_writes_nothing(make_trainer, small, blobs, tmp_path) -> None:
    make_trainer([PredictionWriter(tmp_path / "p.csv")], fast_dev_run=True).predict(small(), blobs())
    assert list(tmp_path.iterdir()) == []


def test_several_processes_raise_an_error(make_trainer, small, tmp_path) -> None:
    trainer = make_trainer([], strategy="ddp_fork", devices=2)
    with pytest.raises(MisconfigurationException, match=r"from one process, not 2\. Use --trainer\.devices 1"):
        PredictionWriter(tmp_path / "p.csv").setup(trainer, small(), "predict")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_digit_is_written(make_trainer, tmp_path, dtype) -> None:
    values = (1e6 + torch.randn(50, dtype=torch.float64) if dtype.itemsize > 2 else torch.randn(50)).to(dtype)
    values[:3] = torch.tensor([float("nan"), float("inf"), 1e-30])
    make_trainer([PredictionWriter(tmp_path / "p.csv")]).predict(_Numbers(values), _loader(torch.ones(2, 1)))
    written = torch.tensor([float(row["prediction"]) for row in _rows(tmp_path / "p.csv")], dtype=torch.float64)
    torch.testing.assert_close(written.to(dtype), values, rtol=0, atol=0, equal_nan=True)
