"""Reading and caching data files."""
