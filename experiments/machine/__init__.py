"""The machine and the processes of a run: hardware, precision, launchers."""
