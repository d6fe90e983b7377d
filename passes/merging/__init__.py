"""Depth merging: what convolutions in a row compute together, as one convolution."""
