"""Shipped experiments: one commented YAML file each, named on the command line by its stem."""
