"""A cost model of this machine: the shipped measurements and those of ``motet tune``.

It lies beside the data base, under a name that says what it is for (machine, kernels,
threads): a model that is out of date is not found.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from motet.targets.host.cost_model.dataset import DataSet, Host
from motet.targets.host.cost_model.learning import Group, fit_families, groups_of
from motet.targets.host.cost_model.model import CostModel, shipped_data
from motet.targets.host.space import Family
from motet.targets.host.tuning_store import Scope, TuningStore

_FORM = "choice and time"
"""What a model's file holds; models of another form are not found."""


def model_path(folder: Path, scope: Scope) -> Path:
    """Where the model for ``scope`` is, or would be."""
    text = f"{scope.machine}\0{scope.version}\0{scope.threads}\0{_FORM}"
    return folder / f"tuned_model_{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"


def tuned_model(folder: Path, scope: Scope) -> CostModel | None:
    """The model that ``refit`` wrote for ``scope``; None where there is none."""
    try:
        return CostModel.from_content(model_path(folder, scope).read_bytes())
    except OSError:
        return None


def refit(
    store: TuningStore, scope: Scope, host: Host, families: Mapping[str, Family]
) -> CostModel:
    """Train on what was shipped and what was measured here, and keep the model.

    Raises ``EnvironmentLackError`` where xgboost is not installed.
    """
    own = DataSet(host, tuple(store.samples(scope)))
    groups = groups_of(own, families) + _shipped_groups(host, families)
    model = CostModel(host, fit_families(groups))
    _write(model_path(store.path.parent, scope), model.content())
    return model


def _shipped_groups(host: Host, families: Mapping[str, Family]) -> list[Group]:
    """Nothing where the shipped measurements are of another width of vectors."""
    shipped = shipped_data()
    same = (shipped.host.arch, shipped.host.vector_bytes) == (host.arch, host.vector_bytes)
    return groups_of(shipped, families) if same else []


def _write(path: Path, content: bytes) -> None:
    """The whole file or none, whoever reads or writes it at the same time."""
    handle, half = tempfile.mkstemp(prefix=".half-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(half).replace(path)
    except BaseException:
        Path(half).unlink(missing_ok=True)
        raise
