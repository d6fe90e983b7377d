"""Matrix products: the family of kernels for ``y = a b`` of any shape."""
