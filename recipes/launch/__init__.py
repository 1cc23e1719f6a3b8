"""Onto TPU VMs: `baton submit`. Imports neither JAX nor TensorFlow."""
