"""Callbacks that show what happens inside the network."""
