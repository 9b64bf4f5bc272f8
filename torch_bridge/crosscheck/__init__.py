"""Every Flax module run beside its PyTorch twin on the same weights and inputs: `suite.crosscheck`."""
