"""The commands there are, and what `fit` runs without a config."""

DEMO = "mlp_digits"
TRAINER_VERBS = ("fit", "resume", "rerun", "validate", "test", "predict")
TRAINING_VERBS = ("fit", "resume", "rerun")
VERBS = (*TRAINER_VERBS, "data", "board", "list", "info", "completion")
