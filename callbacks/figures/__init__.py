"""Plotting functions that several callbacks share."""
