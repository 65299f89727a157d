"""Measures of trained models, each with its standard error or protocol."""
