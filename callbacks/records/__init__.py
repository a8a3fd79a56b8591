"""Callbacks that log and print the progress and the results of a run."""
