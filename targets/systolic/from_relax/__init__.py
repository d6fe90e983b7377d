"""From Relax to the array's workloads: the only part of the array that knows tvm."""
