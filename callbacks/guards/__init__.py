"""Callbacks that stop a run after a signal, without progress, or because of NaN or infinite values."""
