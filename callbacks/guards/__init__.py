"""Callbacks that stop a run, or skip steps, if values are not finite, signals arrive or results do not improve."""
