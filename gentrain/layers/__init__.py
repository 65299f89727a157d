"""Plain nn.Modules that several papers share; they import torch alone."""
