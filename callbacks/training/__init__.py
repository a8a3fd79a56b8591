"""Callbacks that change how the network is trained."""
