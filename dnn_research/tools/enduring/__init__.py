"""Runs that are killed and damaged on purpose, and what is left of them."""
