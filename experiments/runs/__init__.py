"""Run folders: finding, reading, writing and comparing them."""
