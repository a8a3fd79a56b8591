"""The commands there are, and what `fit` runs without a config."""

DEMO = "mlp_digits"
TRAINER_VERBS = ("fit", "resume", "validate", "test", "predict")
VERBS = (*TRAINER_VERBS, "data", "board", "list", "info", "completion")
