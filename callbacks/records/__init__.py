"""Callbacks that record how training went."""
