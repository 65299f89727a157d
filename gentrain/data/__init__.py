"""Data sets: decoding, the cache of decoded arrays, and batches."""
