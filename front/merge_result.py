"""What ``motet.merge`` gives back: the merged model, its decisions and all figures."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motet.runtime.errors import CompileError, ModelError

if TYPE_CHECKING:
    import onnx

    from motet.compiler.calibration.importance import Importance
    from motet.compiler.depth_merging import Candidate
    from motet.compiler.recovery import Recovered
    from motet.passes.decisions import Decided, Merge


TOLD = 3
"""Reasons that the message of a merge that found nothing lists."""


@dataclass(frozen=True)
class Merged:
    """A merged model.

    path: of the file that was merged. target: what times are estimated for. model: the new
    model, with its weights. decided: every merge, and why other convolutions stay apart.
    candidates: blocks that could merge without their activations. importance: of blocks and
    activations, measured on calibration data; recovered: the fits of merges. seconds_before,
    seconds_after: estimated, of the whole model. metric_before, metric_after: None without
    a metric. notes: what else is to be said.
    """

    path: Path
    target: str
    model: onnx.ModelProto
    decided: Decided
    seconds_before: float
    seconds_after: float
    candidates: tuple[Candidate, ...] = ()
    importance: tuple[Importance, ...] = ()
    recovered: tuple[Recovered, ...] = ()
    metric_before: float | None = None
    metric_after: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def removed(self) -> int:
        """How many activations were taken out."""
        return sum(len(merge.removed) for merge in self.decided.decisions.merges)

    def why(self, candidate: Candidate) -> str:
        """Why a candidate's block did not merge."""
        if candidate.merge is None:
            return candidate.reason
        if not candidate.is_faster:
            return "it is not estimated to be faster merged"
        names = ", ".join(nodes[-1] for nodes in candidate.activations)
        return f"its activations stay ({names})"

    def save(
        self,
        output: str | os.PathLike[str],
        decisions: str | os.PathLike[str] | None = None,
    ) -> list[Path]:
        """Write the model, and its decisions (``.json``, ``.npz``; beside it where None).

        Each file appears whole or not at all, the model last. Returns their paths. Raises
        ``CompileError`` where nothing merged, ``ModelError`` where a file cannot be written.
        """
        from motet.compiler.onnx_files import read_whole, write_whole

        if not self.decided.decisions.merges:
            raise CompileError(self.nothing)
        output = Path(output)
        written = self.save_decisions(decisions or output.with_suffix(".json"))
        data = write_whole(self.model, output, beside=read_whole(self.path)[1])
        return [output, *([data] if data is not None else []), *written]

    def save_decisions(self, decisions: str | os.PathLike[str]) -> list[Path]:
        """Write the decisions, and their weights beside them; the paths."""
        from motet.passes.decisions import weights_path, write_decisions

        decisions = Path(decisions)
        written = [decisions, weights_path(decisions)] if self.decided.weights else [decisions]
        try:
            with tempfile.TemporaryDirectory(prefix=".motet-", dir=decisions.parent) as folder:
                write_decisions(self.decided, Path(folder) / decisions.name)
                for path in written:
                    (Path(folder) / path.name).replace(path)
        except OSError as error:
            raise ModelError(f"cannot write {decisions}: {error.strerror or error}") from error
        return written

    @property
    def nothing(self) -> str:
        """Why no convolutions merged, by candidate."""
        reasons = [f"{c.name}: {self.why(c)}" for c in self.candidates]
        kept = [k for k in self.decided.decisions.kept if not k.removable]
        reasons += [f"{' + '.join(k.nodes)}: {k.reason}" for k in kept]
        told = "; ".join(reasons[:TOLD]) or "it has no convolutions in a row"
        more = f"; and {len(reasons) - TOLD} more (run without -o for all)"
        return f"{self.path.name}: nothing to merge: {told}{more if len(reasons) > TOLD else ''}"

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain data; keys name their units."""
        return {
            "model": str(self.path),
            "target": self.target,
            "removed_activations": self.removed,
            "estimated_seconds_before": self.seconds_before,
            "estimated_seconds_after": self.seconds_after,
            "metric_before": self.metric_before,
            "metric_after": self.metric_after,
            "merges": [self._merge(merge) for merge in self.decided.decisions.merges],
            "kept": [
                {"block": k.block, "nodes": list(k.nodes), "reason": k.reason}
                for k in self.decided.decisions.kept
            ],
            "candidates": [self._candidate(candidate) for candidate in self.candidates],
            "importance": [
                {
                    "name": one.name,
                    "activations": [list(nodes) for nodes in one.nodes],
                    "output_change_identity": one.identity,
                    "output_change_affine": one.affine,
                    "affine_fit_error": one.fit_error,
                }
                for one in self.importance
            ],
            "notes": list(self.notes),
        }

    def _merge(self, merge: Merge) -> dict[str, Any]:
        import msgspec

        fit = next((one for one in self.recovered if one.output == merge.output), None)
        facts: dict[str, Any] = msgspec.to_builtins(merge)
        return facts | {
            "is_exact": merge.is_exact,
            "recovered_by": fit.method if fit is not None else None,
            "error_before_fit": fit.before if fit is not None else None,
            "error_after_fit": fit.after if fit is not None else None,
        }

    def _candidate(self, candidate: Candidate) -> dict[str, Any]:
        made = candidate.merge
        return {
            "block": candidate.number,
            "name": candidate.name,
            "activations": [list(nodes) for nodes in candidate.activations],
            "merges": made is not None,
            "reason": candidate.reason,
            "estimated_seconds_before": made.seconds_before if made is not None else None,
            "estimated_seconds_after": made.seconds_after if made is not None else None,
        }
