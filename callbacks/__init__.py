"""What is seen and guarded while a model trains: one callback a file."""

from callbacks.averaged_views import AveragedViews
from callbacks.averaged_weights import AveragedWeights
from callbacks.checkpoints import BestCheckpoint, LastCheckpoint, unknown_monitor
from callbacks.failure import FiniteLoss, TrainingFailed
from callbacks.generated_text import GeneratedText
from callbacks.hyper_parameters import HyperParameters
from callbacks.model_graph import ModelGraph
from callbacks.predictions import PredictionWriter
from callbacks.progress import PlainProgress, TerminalProgress, progress_bar
from callbacks.run_settings import RunSettings
from callbacks.step_hooks import NoStepHooks
from callbacks.summary import ModelTable

__all__ = [
    "AveragedViews",
    "AveragedWeights",
    "BestCheckpoint",
    "FiniteLoss",
    "GeneratedText",
    "HyperParameters",
    "LastCheckpoint",
    "ModelGraph",
    "ModelTable",
    "NoStepHooks",
    "PlainProgress",
    "PredictionWriter",
    "RunSettings",
    "TerminalProgress",
    "TrainingFailed",
    "progress_bar",
    "unknown_monitor",
]
