"""Makers of tiny datasets in the true on-disk formats."""
