"""Operators of your own: converters from ONNX nodes to Relax, registered without touching Motet.

>>> @motet.operators.register("Cube", domain="my.domain")
... def cube(node):
...     x = node.x()
...     return relax.op.multiply(relax.op.multiply(x, x), x)

In a file that ``motet compile --operator-file FILE.py`` names, the converters hold for that
compilation; registered in a program, from then on. ``Node`` says what a converter sees;
``Node.call_kernel`` takes a TVMScript kernel where Relax has no operator. A bundle that was
compiled so needs neither the file nor the compiler to run.
"""

from __future__ import annotations

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.registry import register

__all__ = ["Node", "register"]
