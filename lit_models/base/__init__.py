"""Base classes that every model shares."""
