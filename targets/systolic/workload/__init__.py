"""What the array is asked to compute: layers over tensors, free of any compiler's types."""
