"""Autoregressive models: p(x) is a product over pixels in raster order."""
