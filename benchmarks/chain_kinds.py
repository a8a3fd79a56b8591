"""The twelve kinds of runs that `chains.py` kills: small, and each hard to resume in its own way."""

from __future__ import annotations

_SMALL = (
    "--data.val_split=200",
    "--data.train_fraction=0.3",
    "--data.batch_size=64",
    "--trainer.max_epochs=3",
    "--test_after_fit=true",
    "--trainer.enable_progress_bar=false",
    "--trainer.log_every_n_steps=2",
)
_FIGURES = "--trainer.callbacks+=ClassificationEvidence"
_SHIFT = "--data.augment=[{name: shift, size: 1}]"
_CNN = (
    "--data=benchmarks.arms.made_up.MadeUp32DataModule",
    "--data.count=1400",
    "--model.variant=batchnorm",
    "--model.widths=[4,8]",
    "--model.hidden=[8]",
)

KINDS: dict[str, tuple[str, ...]] = {
    "dropout": ("--model.dropout=0.3", "--model.batch_norm=true", _FIGURES),
    "plateau": ("--model.scheduler={name: plateau, patience: 0}", "--patience=1", "--trainer.max_epochs=5"),
    "max_steps": ("--trainer.max_epochs=-1", "--trainer.max_steps=12", "--model.dropout=0.2"),
    "averaged": (
        "--trainer.callbacks+={class_path: AveragedWeights, init_args: {decay: 0.9, every: 2, start_step: 4}}",
    ),
    "several_steps": ("--steps_per_call=3", "--model.dropout=0.2"),
    "workers": ("--data.num_workers=2", _SHIFT),
    "validations": ("--trainer.val_check_interval=2", "--save_every_steps=2", "--model.dropout=0.2"),
    "lbfgs": ("--model.optimizer=lbfgs", "--model.scheduler=null", "--trainer.max_epochs=2"),
    "accumulation": ("--trainer.accumulate_grad_batches=2", "--save_every_steps=1", "--model.dropout=0.2"),
    "cnn": (*_CNN, _SHIFT, "--save_every_steps=2"),
    "mixup": ("--data.augment=[{name: shift, size: 1}, {name: mixup, alpha: 0.4}]", "--save_every_steps=2"),
    "muon": ("--model.optimizer={name: muon, lr: 0.02}", "--model.dropout=0.2", "--save_every_steps=3"),
}


def arguments(kind: str) -> list[str]:
    """Return the command line that trains a kind in `runs/<kind>/0`."""
    config = "cnn_mnist" if kind == "cnn" else "mlp_digits"
    return ["fit", config, *_SMALL, *KINDS[kind], f"--experiment={kind}"]
