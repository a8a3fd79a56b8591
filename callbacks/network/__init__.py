"""Callbacks that observe the layers of a network."""
