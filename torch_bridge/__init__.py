"""PyTorch models of Efficient Genie, and the only place where PyTorch and JAX meet."""
