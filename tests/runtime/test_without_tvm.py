from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from vm_programs import affine_program, batch_program, bundle_of

RUN = """
import sys
import numpy as np
from motet.runtime.bundle import open_bundle
from motet.runtime.session import Session

session = Session(open_bundle(sys.argv[1]))
x = np.ones((2, 4), np.float32)
assert session["affine"].run(None, {"x": x})[0].tolist() == [[2, 4, 6, 8], [10, 12, 14, 16]]
assert session["batch"].simulate({"x": x}).layers
assert session.run_all({"affine": {"x": x}, "batch": {"x": x}})["batch"]["size"].tolist() == [2, 4]
print(sorted(name for name in sys.modules if name.split(".")[0] in ("tvm", "onnx", "onnxruntime")))
"""


def test_a_bundle_runs_without_tvm_or_onnx(tmp_path: Path, kernel_library: bytes) -> None:
    programs = {"affine": affine_program(), "batch": batch_program()}
    bundle = bundle_of(programs, kernel_library, [np.arange(8, dtype=np.float32)])
    path = bundle.save(tmp_path / "x.motet")
    command = [sys.executable, "-W", "error", "-c", RUN, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stderr == ""
    assert done.stdout == "[]\n"
