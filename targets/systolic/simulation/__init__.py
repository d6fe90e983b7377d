"""The views of a program: values, cycles, energy."""
