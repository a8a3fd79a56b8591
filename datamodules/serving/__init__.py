"""Batches, loaders, splits and data storage."""
