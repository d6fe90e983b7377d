"""Runs SCALE-Sim 3.0.0 on the layers of a topology, in the Python that has it.

    python -c "$(cat scalesim_worker.py)" CONFIG.cfg TOPOLOGY.csv conv|gemm compute|memory

Prints one line of JSON, a list with an object per layer: ``name``; ``seconds`` of this process'
wall-clock; ``compute_cycles``, the rows of SCALE-Sim's demand matrices; with ``memory`` (its
whole simulation) also ``reported_cycles`` and ``stall_cycles``, as it prints them. Imports
nothing of this project.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from typing import Any

from scalesim.layout_utils import layouts
from scalesim.scale_config import scale_config
from scalesim.single_layer_sim import single_layer_sim
from scalesim.topology_utils import topologies


def main(config_path: str, topology_path: str, kind: str, what: str) -> None:
    """Simulate each layer and print what came out."""
    config, topology = scale_config(), topologies()
    config.read_conf_file(config_path)
    topology.load_arrays(topology_path, mnk_inputs=kind == "gemm")
    with contextlib.redirect_stdout(io.StringIO()):
        results = [
            simulate(config, topology, layer, what) for layer in range(topology.get_num_layers())
        ]
    print(json.dumps(results))


def simulate(config: Any, topology: Any, layer: int, what: str) -> dict[str, Any]:
    """One layer, its demand matrices alone or with memory."""
    start = time.perf_counter()
    simulation = single_layer_sim()
    simulation.set_params(
        layer_id=layer,
        config_obj=config,
        topology_obj=topology,
        layout_obj=layouts(),
        verbose=False,
    )
    result: dict[str, Any] = {"name": topology.get_layer_name(layer)}
    if what == "memory":
        simulation.run()
        items = simulation.get_compute_report_items()
        result |= {"reported_cycles": int(items[1]), "stall_cycles": int(items[2])}
    else:
        demands(simulation, config)
    matrices = simulation.compute_system.get_demand_matrices()
    result["compute_cycles"] = int(matrices[0].shape[0])
    return result | {"seconds": time.perf_counter() - start}


def demands(simulation: Any, config: Any) -> None:
    """What ``single_layer_sim.run`` does before its memories."""
    operands = simulation.op_mat_obj
    matrices = {
        "ifmap_op_mat": operands.get_ifmap_matrix()[1],
        "filter_op_mat": operands.get_filter_matrix()[1],
        "ofmap_op_mat": operands.get_ofmap_matrix()[1],
    }
    if config.get_dataflow() == "ws":
        matrices |= {
            "sparsity_ratio_N": simulation.sparsity_ratio_N,
            "sparsity_ratio_M": simulation.sparsity_ratio_M,
            "ifmap_op_mat_original": operands.ifmap_addr_matrix_original,
            "sparsity_filter_array": operands.sparse_filter_array,
        }
    simulation.compute_system.set_params(config_obj=config, **matrices)


if __name__ == "__main__":
    main(*sys.argv[1:])
