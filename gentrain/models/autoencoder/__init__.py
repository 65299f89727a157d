"""Autoencoders: a narrow code between two networks; the variational ones bound p(x)."""
