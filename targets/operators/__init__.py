"""Relax operators of Motet's own: what Relax lacks and no target should have to guess.

An operator here has a name ``motet.<name>``, a type rule and attributes; the front end
emits it, passes read it, and each target that takes it has code for it.
"""
