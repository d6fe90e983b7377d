"""Blocked layouts: channels in blocks of a vector's lanes, through as much of a graph as pays."""

from motet.passes.layout.rewriting import layout

__all__ = ["layout"]
