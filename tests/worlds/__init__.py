"""Whole runs, and what the devices did in them."""
