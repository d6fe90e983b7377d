"""Kernels of recurrent networks."""
