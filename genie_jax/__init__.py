"""Flax models of Efficient Genie, their training steps and latent rollouts. Never imports torch."""
