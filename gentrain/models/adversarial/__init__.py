"""Adversarial models: a generator and a discriminator play against one another."""
