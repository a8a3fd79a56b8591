"""Trainer whose argument types preserve integers from the command line."""

from typing import Any

from lightning.pytorch import Trainer


class LitlabTrainer(Trainer):
    """Lightning's Trainer with `int | float` as the type of batch limits.

    Lightning's own annotation may become `Union[float, int]`, because `typing` caches unions. jsonargparse would then
    convert `1`, one batch, to `1.0`, the entire epoch (Lightning issue 21259).
    """

    def __init__(
        self,
        *,
        limit_train_batches: "int | float | None" = None,
        limit_val_batches: "int | float | None" = None,
        limit_test_batches: "int | float | None" = None,
        limit_predict_batches: "int | float | None" = None,
        overfit_batches: "int | float" = 0.0,
        val_check_interval: "int | float | str | dict[str, int] | None" = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            overfit_batches=overfit_batches,
            val_check_interval=val_check_interval,
            **kwargs,
        )
