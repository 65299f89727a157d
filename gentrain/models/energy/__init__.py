"""Energy-based models: p(x) = exp(-F(x)) / Z, with a partition function Z that must be found."""
