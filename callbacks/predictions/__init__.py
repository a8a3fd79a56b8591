"""Callbacks that show or write predictions."""
