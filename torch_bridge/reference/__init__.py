"""PyTorch twins of the Flax modules: what `genie crosscheck` runs beside them on the same weights and inputs."""
