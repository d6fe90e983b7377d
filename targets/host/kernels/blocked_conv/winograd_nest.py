"""The loop nests of Winograd's convolution.

With ``V`` the transformed input of a group of tiles and ``M`` the products of one sweep of
output channels, ``order = LOCAL`` is::

    for n, group of tiles:                                          parallel
        for ic block, tile: V[point, ic block, tile] = B^T x B
        for sweep:
            for point, panel, rows of tiles: M[tile, point, panel] = V[point] U[sweep, point]
            for tile, oc block of the sweep: y = epilogue(A^T M[tile] A)

so that V and M stay in the second-level cache and the weights U are read once per group.
``order = SHARED`` transforms all tiles first (parallel over n, group, ic block); its second
loop is parallel over sweep, n and group, so that every weight is read once or stays in cache.
"""

from __future__ import annotations

from tvm import tirx

from motet.targets.host.kernels.blocked_conv.winograd_inputs import write_input_tile
from motet.targets.host.kernels.blocked_conv.winograd_outputs import write_output_tile
from motet.targets.host.kernels.blocked_conv.winograd_plan import SHARED
from motet.targets.host.kernels.blocked_conv.winograd_products import write_products
from motet.targets.host.kernels.blocked_conv.winograd_writing import TileGroup, Writing
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    index,
    loop,
    nest,
    parallel,
    scratch,
    seq,
    simplify,
)  # fmt: skip


def write_nest(writing: Writing) -> Stmt:
    """The whole nest, in the plan's order."""
    return _shared(writing) if writing.plan.order == SHARED else _local(writing)


def _local(writing: Writing) -> Stmt:
    plan = writing.plan
    values = scratch("inputs", [plan.points * plan.plane], writing.input_dtype)

    def task(n: Expr, number: Expr) -> Stmt:
        group = _group(writing, values, index(0), n, number)
        return seq(
            allocate(values),
            allocate(group.input_half),
            allocate(group.half) if writing.narrow else None,
            _inputs(writing, group),
            loop("sweep", plan.sweeps, lambda s: _sweep(writing, group, s)),
        )

    extents = [writing.request.conv.batch, plan.groups]
    return parallel(["n", "group"], extents, task, writing.parallel)


def _shared(writing: Writing) -> Stmt:
    plan, batch = writing.plan, writing.request.conv.batch
    size = plan.points * plan.plane
    values = scratch("inputs", [simplify(batch * (plan.groups * size))], writing.input_dtype)

    def group_of(n: Expr, number: Expr) -> TileGroup:
        return _group(writing, values, (n * plan.groups + number) * size, n, number)

    def inputs(n: Expr, number: Expr, icb: Expr) -> Stmt:
        group = group_of(n, number)
        tiles = loop("tile", plan.group, lambda i: write_input_tile(writing, group, icb, i))
        return seq(allocate(group.input_half), tiles)

    def outputs(sweep: Expr, n: Expr, number: Expr) -> Stmt:
        group = group_of(n, number)
        return seq(allocate(group.half), _sweep(writing, group, sweep))

    first = [batch, plan.groups, plan.ic_blocks]
    second = [plan.sweeps, batch, plan.groups]
    return seq(
        allocate(values),
        parallel(["n", "group", "icb"], first, inputs, writing.parallel),
        parallel(["sweep", "n", "group"], second, outputs, writing.parallel),
    )


def _group(writing: Writing, values: Buffer, base: Expr, n: Expr, number: Expr) -> TileGroup:
    plan = writing.plan
    first = tirx.min(number * plan.group, index(plan.tiles - plan.group))
    return TileGroup(values, base, *writing.halves(), n, first, number * plan.group - first)


def _inputs(writing: Writing, group: TileGroup) -> Stmt:
    """Transforms of all channels of a group; along a row of tiles memory is read in order."""
    extents = [writing.plan.ic_blocks, writing.plan.group]
    return nest(["icb", "tile"], extents, lambda icb, i: write_input_tile(writing, group, icb, i))


def _sweep(writing: Writing, group: TileGroup, sweep: Expr) -> Stmt:
    """The outputs of one sweep's channels, for a group."""
    plan = writing.plan
    blocks = tirx.min(index(plan.sweep_blocks), plan.oc_blocks - sweep * plan.sweep_blocks)
    shape = [plan.group, plan.points, plan.sweep_blocks * plan.block]
    products = scratch("products", shape, writing.dtype)

    def product(point: Expr, panel: Expr) -> Stmt:
        return write_products(writing, group, products, sweep, point, panel)

    def output(i: Expr, b: Expr) -> Stmt:
        return write_output_tile(writing, group, products, sweep, i + group.skipped, b)

    return seq(
        allocate(products),
        nest(["point", "panel"], [plan.points, plan.panels], product),
        nest(["tile", "ocb"], [plan.group - group.skipped, simplify(blocks)], output),
    )
