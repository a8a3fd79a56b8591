"""Callbacks that stop or protect a run when something goes wrong."""
