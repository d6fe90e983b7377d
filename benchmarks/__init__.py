"""Motet measured against named peers: one file per claim."""
