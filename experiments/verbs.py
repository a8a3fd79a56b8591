"""The commands there are, what `fit` runs without a config, and a word between the processes of one rerun."""

DEMO = "mlp_digits"
TRAINER_VERBS = ("fit", "resume", "rerun", "validate", "test", "predict")
TRAINING_VERBS = ("fit", "resume", "rerun")
# Names the run that is repeated to the processes that Lightning starts beside the first one: by then an experiment's
# newest run may be the repeat itself.
RERUN_OF = "LITLAB_RERUN_OF"
VERBS = (*TRAINER_VERBS, "data", "board", "list", "info", "completion")
