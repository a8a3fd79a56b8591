"""Options of the Trainer that it would take late, wrongly or not at all."""

from __future__ import annotations

from tests.experiments.bad_inputs.bad import Bad

TRAINER: dict[str, Bad] = {
    "unknown accelerator": Bad("fit --trainer.accelerator tpux", ("accelerator", "tpux"), "cpu", "fit"),
    "accelerator that is not there": Bad("fit --trainer.accelerator=tpu", "trainer.accelerator=tpu", "remove", "fit"),
    "no devices": Bad(
        "fit --trainer.devices=0 --trainer.accelerator=cpu", "trainer.devices=0", "remove", "fit --trainer.devices=1"
    ),
    "unknown strategy": Bad("fit --trainer.strategy=dpp", ("strategy", "dpp"), "ddp", "fit --trainer.strategy=auto"),
    "unknown precision": Bad(
        "fit --trainer.precision=8", ("trainer.precision", "'8'"), "32-true", "fit --trainer.precision=32"
    ),
    "half precision on a CPU": Bad(
        "fit --trainer.accelerator=cpu --trainer.precision=16-true",
        "16-true",
        "bf16-mixed",
        "fit --trainer.accelerator=cpu --trainer.precision=32-true",
    ),
    "no accumulation": Bad(
        "fit --trainer.accumulate_grad_batches=0", ("accumulate_grad_batches must be", "got 0"), "1 or more", "fit"
    ),
    "accumulation that does not divide the batch": Bad(
        "fit --data.batch_size=10 --trainer.accumulate_grad_batches=3",
        "batch_size: 10",
        "a multiple of 3",
        "fit --data.batch_size=9 --trainer.accumulate_grad_batches=3",
    ),
    "validation every 0 epochs": Bad(
        "fit --trainer.check_val_every_n_epoch=0", ("check_val_every_n_epoch must be", "got 0"), "1 or more", "fit"
    ),
    "interval that no epoch reaches": Bad(
        "fit --trainer.val_check_interval=50",
        ("val_check_interval must be at most 36", "got 50"),
        "Set fewer",
        "fit --trainer.val_check_interval=5",
    ),
    "interval of more than an epoch": Bad(
        "fit --trainer.val_check_interval=1.5", ("val_check_interval", "1.5"), "1.0", "fit"
    ),
    "limit below nothing": Bad(
        "fit --trainer.limit_train_batches=-1",
        ("limit_train_batches", "-1"),
        "0",
        "fit --trainer.limit_train_batches=1",
    ),
    "limit of more than all": Bad("fit --trainer.limit_val_batches=1.5", ("limit_val_batches", "1.5"), "1.0", "fit"),
    "epochs below nothing": Bad("fit --trainer.max_epochs=-3", ("max_epochs", "-3"), "-1", "fit"),
    "steps below nothing": Bad("fit --trainer.max_steps=-3", ("max_steps", "-3"), "-1", "fit"),
    "time that is none": Bad("fit --trainer.max_time=soon", ("max_time", "soon"), "DD:HH:MM:SS", "fit"),
    "clipping by a norm that is none": Bad(
        "fit --trainer.gradient_clip_val=1 --trainer.gradient_clip_algorithm=nrom",
        "nrom",
        "norm",
        "fit --trainer.gradient_clip_val=1 --trainer.gradient_clip_algorithm=norm",
    ),
    "barebones": Bad("fit --trainer.barebones=true", "barebones", "--trainer.logger false", "fit"),
    "root of its own": Bad("fit --trainer.default_root_dir=x", "default_root_dir", "LITLAB_RUNS_DIR", "fit"),
    "profiler that is not known": Bad("fit --trainer.profiler=simpel", ("profiler", "simpel"), "simple", "fit"),
    "logger that is not known": Bad("fit --trainer.logger=TensorBord", ("logger", "TensorBord"), "import path", "fit"),
    "plugin that is not known": Bad("fit --trainer.plugins=nothing", ("plugins", "nothing"), "import path", "fit"),
}
