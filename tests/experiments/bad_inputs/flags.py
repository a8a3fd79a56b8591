"""Options of the command line: wrong names, wrong values, and values that contradict each other."""

from __future__ import annotations

from tests.experiments.bad_inputs.bad import Bad

# `fit` without a config trains the demo, LitMLP on digits.
FLAGS: dict[str, Bad] = {
    "unknown option": Bad("fit --foo 3", "'--foo' is not an option", "--help", "fit"),
    "typo in a trainer option": Bad(
        "fit --trainer.max_epoch 3",
        "--trainer.max_epoch'",
        "Did you mean --trainer.max_epochs?",
        "fit --trainer.max_epochs 3",
    ),
    "typo in a model option": Bad(
        "fit --model.hiden [3]", "LitMLP has no argument 'hiden'", "Did you mean hidden?", "fit --model.hidden [3]"
    ),
    "typo in a data option": Bad(
        "fit --data.batchsize 3",
        "DigitsDataModule has no argument 'batchsize'",
        "Did you mean batch_size?",
        "fit --data.batch_size 3",
    ),
    "shortened option": Bad("fit --trainer.max_ep=3", "--trainer.max_ep'", "--trainer.max_epochs", "fit"),
    "value missing at the end": Bad("fit --data.batch_size", "--data.batch_size", "needs a value", "fit"),
    "value missing in the middle": Bad(
        "fit --model.optimizer --trainer.max_epochs=1", "--model.optimizer", "needs a value", "fit"
    ),
    "value missing in the middle, of the trainer": Bad(
        "fit --trainer.max_steps --trainer.max_epochs=1", "trainer.max_steps", "needs a value", "fit"
    ),
    "one word too many": Bad("fit --trainer.max_epochs=1 mlp_mnist", "'mlp_mnist'", "right after the command", "fit"),
    "unknown model": Bad(
        "fit --model LitCN",
        "model: unknown class 'LitCN'",
        ("Did you mean LitCNN?", "litlab list models"),
        "fit --model LitCNN",
    ),
    "unknown data": Bad(
        "fit --data DigitDataModule",
        "data: unknown class 'DigitDataModule'",
        "Did you mean DigitsDataModule?",
        "fit --data DigitsDataModule",
    ),
    "unknown callback": Bad(
        "fit --trainer.callbacks+=GradientZ",
        "callback: unknown class 'GradientZ'",
        "Did you mean Gradients?",
        "fit --trainer.callbacks+=Gradients",
    ),
    "unknown setting of a callback": Bad(
        "fit --trainer.callbacks+=Gradients --trainer.callbacks.evry_n_steps=3",
        "'evry_n_steps'",
        "Did you mean every_n_steps?",
        "fit --trainer.callbacks+=Gradients --trainer.callbacks.every_n_steps=3",
    ),
    "module that is not there": Bad(
        "fit --model no_such.Net", ("model", "'no_such.Net' cannot be imported"), "run litlab in the folder", "fit"
    ),
    "class that is no model": Bad(
        "fit --model torch.nn.Linear", ("model", "torch.nn.Linear"), "Name a class that derives from it", "fit"
    ),
    "class that is no data module": Bad(
        "fit --data lit_models.LitMLP", ("data", "lit_models.LitMLP"), "Name a class that derives from it", "fit"
    ),
    "text for a number": Bad(
        "fit --trainer.max_epochs many",
        ("trainer.max_epochs must be", "got 'many'"),
        "must be an integer",
        "fit --trainer.max_epochs 1",
    ),
    "fraction for a whole number": Bad(
        "fit --trainer.max_epochs 1.5",
        ("trainer.max_epochs must be", "got '1.5'"),
        "must be an integer",
        "fit --trainer.max_epochs 1",
    ),
    "text for a number of the model": Bad(
        "fit --model.dropout much",
        ("model.dropout must be", "got 'much'"),
        "must be a number",
        "fit --model.dropout 0.1",
    ),
    "text for true or false": Bad(
        "fit --compile perhaps", ("compile must be", "got 'perhaps'"), "must be true or false", "fit --compile false"
    ),
    "choice that is none": Bad("fit --mode up", ("mode must be", "got 'up'"), "must be min or max", "fit --mode max"),
    "list that is none": Bad(
        "fit --model.hidden wide", ("model.hidden must be", "got 'wide'"), "a list", "fit --model.hidden [3]"
    ),
    "layer of no unit": Bad("fit --model.hidden [0]", "hidden must be", ("positive", "got"), "fit --model.hidden [1]"),
    "dropout of everything": Bad(
        "fit --model.dropout 1", "dropout must be", "below 1, got 1", "fit --model.dropout 0.9"
    ),
    "unknown monitor": Bad(
        "fit --monitor val/accuracy", "val/accuracy", "Did you mean val/acc?", "fit --monitor val/acc"
    ),
    "unknown train monitor": Bad(
        "fit --monitor train/accuracy", "train/accuracy", "Did you mean train/acc", "fit --monitor train/acc"
    ),
    "unknown optimizer": Bad(
        "fit --model.optimizer adamm",
        "optimizer: unknown name 'adamm'",
        "Did you mean adam?",
        "fit --model.optimizer adam",
    ),
    "unknown setting of the optimizer": Bad(
        "fit --model.optimizer.lrr 1", ("optimizer", "'lrr'"), "Did you mean lr?", "fit --model.optimizer.lr 1"
    ),
    "negative learning rate": Bad(
        "fit --model.optimizer.lr -1",
        ("optimizer", "lr=-1"),
        "Change or remove",
        "fit --model.optimizer.lr 0.1",
    ),
    "learning rate that is no number": Bad(
        "fit --model.optimizer.lr fast", ("optimizer", "lr='fast'"), "must be a number", "fit --model.optimizer.lr 0.1"
    ),
    "learning rate NaN": Bad("fit --model.optimizer.lr .nan", ("optimizer", "lr"), "must be a finite number", "fit"),
    "unknown schedule": Bad(
        "fit --model.scheduler cosin",
        "scheduler: unknown name 'cosin'",
        "Did you mean cosine?",
        "fit --model.scheduler cosine",
    ),
    "unknown loss": Bad("fit --model.loss mse", ("loss", "mse"), "cross_entropy", "fit --model.loss cross_entropy"),
    "unknown activation": Bad(
        "fit --model.activation rellu", "rellu", "Did you mean relu?", "fit --model.activation relu"
    ),
    "unknown initialisation": Bad(
        "fit --model.init xavir_uniform",
        "xavir_uniform",
        "Did you mean xavier_uniform?",
        "fit --model.init xavier_uniform",
    ),
    "unknown variant": Bad(
        "fit --model=LitCNN --model.variant=lenet",
        ("model.variant must be", "got 'lenet'"),
        "Did you mean lenet5?",
        "fit --model=LitCNN",
    ),
    "batch of nothing": Bad(
        "fit --data.batch_size 0",
        "batch_size must be a positive integer, got 0",
        "--data.batch_size",
        "fit --data.batch_size 1",
    ),
    "validation asked for and empty": Bad(
        "fit --data.val_split 0.0001", "val_split: 0.0001", "Set a larger", "fit --data.val_split 0.1"
    ),
    "validation larger than the data": Bad(
        "fit --data.val_split 5000", "val_split: 5000", "Set a smaller", "fit --data.val_split 500"
    ),
    "validation of more than all": Bad(
        "fit --data.val_split 1.5", ("val_split must be", "got 1.5"), "below 1.0", "fit"
    ),
    "fraction of nothing": Bad(
        "fit --data.train_fraction 0",
        "train_fraction must be above 0 and at most 1, got 0",
        "--data.train_fraction",
        "fit",
    ),
    "split seed negative": Bad(
        "fit --data.split_seed -1", "split_seed must be an integer of at least 0, got -1", "--data.split_seed", "fit"
    ),
    "holding that is not known": Bad(
        "fit --data.holding disk", ("data.holding must be", "got 'disk'"), "memory", "fit"
    ),
    "seed no number": Bad("fit --seed_everything abc", ("seed_everything must be", "got 'abc'"), "an integer", "fit"),
    "seed a fraction": Bad("fit --seed_everything 1.5", ("seed_everything", "1.5"), "an integer", "fit"),
    "seed true": Bad("fit --seed_everything true", ("seed_everything must be", "got True"), "an integer", "fit"),
    "seed negative": Bad("fit --seed_everything -1", ("seed_everything must be", "got -1"), "an integer from 0", "fit"),
    "patience of nothing": Bad("fit --patience 0", ("patience must be", "got 0"), "1 or more", "fit --patience 1"),
    "patience without validation": Bad(
        "fit --patience 1 --data.val_split 0",
        ("patience", "no validation split"),
        "--data.val_split",
        "fit --patience 1",
    ),
    "min_delta negative": Bad("fit --min_delta -1", ("min_delta must be", "got -1"), "0 or more", "fit --min_delta 1"),
    "saving after no steps": Bad("fit --save_every_steps 0", "save_every_steps must be", "above 0", "fit"),
    "saving after negative minutes": Bad("fit --save_every_minutes -3", "save_every_minutes must be", "above 0", "fit"),
    "no threads": Bad("fit --threads 0", "threads must be a positive integer, got 0", "1 or more", "fit --threads 1"),
    "no steps per call": Bad(
        "fit --steps_per_call 0", "steps_per_call must be a positive integer, got 0", "1 or more", "fit"
    ),
    "several steps with clipping": Bad(
        "fit --steps_per_call 3 --trainer.gradient_clip_val 1",
        ("steps_per_call must be 1", "trainer.gradient_clip_val", "got 3"),
        "Remove --steps_per_call",
        "fit --trainer.gradient_clip_val 1",
    ),
    "experiment that is no folder name": Bad(
        "fit --experiment a/b",
        "experiment must be a folder name of at most 255 bytes without a dot or a minus at its start, got 'a/b'",
        "Use letters",
        "fit --experiment a_b",
    ),
    "number of classes against the data": Bad(
        "fit --model.num_classes 7",
        ("num_classes must be 10", "num_classes of DigitsDataModule, got 7"),
        "Remove model.num_classes",
        "fit",
    ),
    "classifier on numbers": Bad(
        "fit --data=SineDataModule --data.stratify=false",
        ("LitMLP is a classifier", "SineDataModule"),
        "LitMLPRegressor",
        "fit mlp_sine",
    ),
    "regressor on classes": Bad(
        "fit --model LitLinearRegression",
        ("LitLinearRegression is a regressor", "DigitsDataModule"),
        "LitLogisticRegression",
        "fit --model LitLogisticRegression",
    ),
    "image model without images": Bad(
        "fit --model LitCNN --data MoonsDataModule",
        ("LitCNN needs images", "(2,)"),
        "LitMLP",
        "fit --data MoonsDataModule",
    ),
    "classifier on text": Bad(
        "fit --data=TextDataModule --data.stratify=false",
        ("LitMLP", "TextDataModule"),
        "LitTokenLSTM",
        "fit lstm_text --data.sequence_length=8 --data.batch_size=4",
    ),
    "text model without text": Bad(
        "fit --model LitTokenLSTM",
        ("LitTokenLSTM reads text", "DigitsDataModule"),
        "TextDataModule",
        "fit lstm_text --data.sequence_length=8 --data.batch_size=4",
    ),
    "augmentation that is not known": Bad(
        "fit --model=LitCNN --data.augment=[flop]",
        "'flop'",
        "Did you mean flip?",
        "fit --model=LitCNN --data.augment=[flip]",
    ),
    "augmentation of no images": Bad(
        "fit --data=MoonsDataModule --data.augment=[flip]", "'augment'", "It takes", "fit --data MoonsDataModule"
    ),
}
