"""The Trainer with command-line types that mean what is typed."""

from typing import Any

from lightning.pytorch import Trainer


class LitlabTrainer(Trainer):
    """Lightning's Trainer, which keeps integers for batch limits as integers.

    Lightning annotates these as `Union[int, float]`, which `typing` may hand over as float first, so that `1` becomes
    `1.0`, the entire epoch (Lightning issue 21259).
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
