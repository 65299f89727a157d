"""Flows: an invertible map between images and a simple density."""
