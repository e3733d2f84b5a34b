"""Tests of what the training text promises: `python -m unittest` in the folder above."""
