"""Mutations of an ONNX model by what they change; each is a function of model and chance.

A mutation changes the model in place and says what it did in a few words; it gives ""
where the model has nothing for it. Most give models that no exporter would write; a few
(``generalise_sizes``, ``freeze_input``, ``insert_node``, ``rename_value``) keep a model
correct, so that values are compared too and not only refusals.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import onnx

from . import attributes, edges, nodes, opsets, shapes, tensors, texts

Mutation = Callable[[onnx.ModelProto, Random], str]

MUTATIONS: tuple[Mutation, ...] = (
    *attributes.MUTATIONS,
    *shapes.MUTATIONS,
    *tensors.MUTATIONS,
    *edges.MUTATIONS,
    *nodes.MUTATIONS,
    *opsets.MUTATIONS,
    *texts.MUTATIONS,
)
