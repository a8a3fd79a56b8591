"""Callbacks that plot or save predictions."""

from callbacks.predictions.prediction_file import PredictionWriter  # config files of earlier runs name it here

__all__ = ["PredictionWriter"]
