"""The models, one file where the mathematics differs."""
