"""The table of bad inputs, by kind."""
