"""Kernels of convolutions in the blocked layout."""
