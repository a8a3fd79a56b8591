"""Batches, loaders, splits and where data is stored."""
