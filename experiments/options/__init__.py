"""Options of a run: config files, run options, names, and data properties."""
