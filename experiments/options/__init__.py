"""Options of a run: config files, run options, names and the values linked from the data."""
