"""Callbacks: checkpoints, guards, figures, predictions and records of a run."""

from pkgutil import extend_path

from callbacks.checkpoints.atomic_files import atomic_write
from callbacks.checkpoints.best_checkpoint import BestCheckpoint, unknown_monitor
from callbacks.checkpoints.exact_state import ExactState
from callbacks.checkpoints.last_checkpoint import LastCheckpoint
from callbacks.guards.finite_loss import FiniteLoss, TrainingFailed
from callbacks.guards.skip_not_finite import SkipNotFinite
from callbacks.guards.stop_signals import Stopped, StopSignals
from callbacks.network.activations import Activations
from callbacks.network.embeddings import Embeddings
from callbacks.network.feature_maps import FeatureMaps
from callbacks.network.gradients import Gradients
from callbacks.network.model_graph import ModelGraph
from callbacks.network.model_table import ModelTable
from callbacks.network.weights import Weights
from callbacks.predictions.averaged_views import AveragedViews
from callbacks.predictions.classification_evidence import ClassificationEvidence
from callbacks.predictions.decision_regions import DecisionRegions
from callbacks.predictions.end_figures import EndFigures
from callbacks.predictions.generated_text import GeneratedText
from callbacks.predictions.prediction_file import PredictionWriter
from callbacks.predictions.regression_figures import RegressionFigures
from callbacks.records.chart_layout import ChartLayout
from callbacks.records.hyper_parameters import HyperParameters
from callbacks.records.progress import PlainProgress, TerminalProgress, progress_bar
from callbacks.records.run_settings import RunSettings
from callbacks.step_hooks import NoStepHooks, Observer
from callbacks.training.averaged_weights import AveragedWeights

__path__ = extend_path(__path__, __name__)  # a project's folder of this name, see litlab.packages

__all__ = [
    "Activations", "AveragedViews", "AveragedWeights", "BestCheckpoint", "ChartLayout", "ClassificationEvidence",
    "DecisionRegions", "Embeddings", "EndFigures", "ExactState", "FeatureMaps", "FiniteLoss", "GeneratedText",
    "Gradients", "HyperParameters", "LastCheckpoint", "ModelGraph", "ModelTable", "NoStepHooks", "Observer",
    "PlainProgress", "PredictionWriter", "RegressionFigures", "RunSettings", "SkipNotFinite", "StopSignals", "Stopped",
    "TerminalProgress", "TrainingFailed", "Weights", "atomic_write", "progress_bar", "unknown_monitor",
]  # fmt: skip
