"""The simulated systolic array: description, instruction set, code generation, simulators."""
