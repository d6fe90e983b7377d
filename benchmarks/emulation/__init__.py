"""Runs kernels for instruction sets that this machine lacks, in an emulator."""
