"""Code generation: steps of a workload to instructions."""
