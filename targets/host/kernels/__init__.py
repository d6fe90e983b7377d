"""Host kernels, one family per file."""
