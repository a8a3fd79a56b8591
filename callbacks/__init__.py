"""What is seen and guarded while a model trains: one callback a file."""

from callbacks.activations import Activations
from callbacks.averaged_views import AveragedViews
from callbacks.averaged_weights import AveragedWeights
from callbacks.best_checkpoint import BestCheckpoint, unknown_monitor
from callbacks.chart_layout import ChartLayout
from callbacks.classification_evidence import ClassificationEvidence
from callbacks.decision_regions import DecisionRegions
from callbacks.embeddings import Embeddings
from callbacks.end_figures import EndFigures
from callbacks.exact_state import ExactState
from callbacks.failure import FiniteLoss, TrainingFailed
from callbacks.feature_maps import FeatureMaps
from callbacks.generated_text import GeneratedText
from callbacks.gradients import Gradients
from callbacks.hyper_parameters import HyperParameters
from callbacks.last_checkpoint import LastCheckpoint
from callbacks.model_graph import ModelGraph
from callbacks.predictions import PredictionWriter
from callbacks.progress import PlainProgress, TerminalProgress, progress_bar
from callbacks.regression_figures import RegressionFigures
from callbacks.run_settings import RunSettings
from callbacks.skip_not_finite import SkipNotFinite
from callbacks.step_hooks import NoStepHooks
from callbacks.stop_signals import Stopped, StopSignals
from callbacks.summary import ModelTable
from callbacks.weights import Weights
from callbacks.whole_files import whole_file

__all__ = [
    "Activations",
    "AveragedViews",
    "AveragedWeights",
    "BestCheckpoint",
    "ChartLayout",
    "ClassificationEvidence",
    "DecisionRegions",
    "Embeddings",
    "EndFigures",
    "ExactState",
    "FeatureMaps",
    "FiniteLoss",
    "GeneratedText",
    "Gradients",
    "HyperParameters",
    "LastCheckpoint",
    "ModelGraph",
    "ModelTable",
    "NoStepHooks",
    "PlainProgress",
    "PredictionWriter",
    "RegressionFigures",
    "RunSettings",
    "SkipNotFinite",
    "StopSignals",
    "Stopped",
    "TerminalProgress",
    "TrainingFailed",
    "Weights",
    "progress_bar",
    "unknown_monitor",
    "whole_file",
]
