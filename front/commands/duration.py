"""``motet simulate --duration``: its options, and what they ask for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from motet.commands.common import Format
from motet.commands.duration_interval_tables import print_intervals
from motet.commands.duration_tables import print_seconds
from motet.console import print_csv, print_json, progress, warn
from motet.opening import CompileRequest, is_source, open_or_compile, target_of
from motet.runtime.errors import SpecError
from motet.runtime.exact_numbers import LONGEST_SECONDS, exact
from motet.runtime.policies import DEFAULT_POLICY, POLICIES
from motet.simulating import SimulatedModel
from motet.simulation_input import Work
from motet.targets.sharing.intervals import Interval

if TYPE_CHECKING:
    from motet.bundle_seconds import Question
    from motet.together import Together

Command = Callable[..., Any]

_UNITS = {"": Fraction(1), "s": Fraction(1), "ms": Fraction(1, 1000), "us": Fraction(1, 10**6),
          "min": Fraction(60)}  # fmt: skip


class Time(click.ParamType[Fraction]):
    """Seconds: ``2``, ``1s``, ``500ms``, ``0.5min``, above 0."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Fraction:
        """The seconds, exactly as written."""
        if isinstance(value, Fraction):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)\s*([a-z]*)", str(value).lower())
        try:
            seconds = exact(found[1]) * _UNITS[found[2]] if found is not None else Fraction(0)
        except (KeyError, ValueError):  # also for what no double has the size of
            seconds = Fraction(0)
        if not 0 < seconds <= LONGEST_SECONDS:
            self.fail(
                f"{value!r} is no time above 0 and up to {LONGEST_SECONDS:,} s, as 1s, 500ms or "
                "2min", param, ctx
            )  # fmt: skip
        return seconds


@dataclass(frozen=True)
class Duration:
    """What ``--duration`` and its kin asked for; host: as ``host_times`` has it, or None."""

    question: Question
    host: str | None
    threads: int | None = None

    def is_for_host(self, file: str, request: CompileRequest) -> bool:
        """Whether ``file`` is compiled for the host, so that there is no array to simulate."""
        if is_source(file):
            given = request.target is not None or file.endswith(".toml")
            array = (request.target or "").endswith(".cfg")
            return given and not array and target_of(file, request) == "host"
        if not file.endswith(".motet"):
            return False
        from motet.runtime.bundle import open_bundle

        return open_bundle(file).array_description is None

    def on_host(self, file: str, request: CompileRequest, model: str | None, form: Format) -> None:
        """Simulate models of the host, and print."""
        from motet.together import on_host

        if self.host == "none":
            raise SpecError("--host none: these models run on the host: nothing would take time")
        if self.question.share_pods:
            raise SpecError("--share-pods: these models run on the host, which has no pods")
        bundle = open_or_compile(file, request)
        with progress("measure"):
            together = on_host(bundle, self.host, model, self.threads)
        self._simulate(together, form)

    def check(self, work: Work) -> None:
        """Refuse what ``work`` has no shares of pods for, before its models are compiled."""
        if self.question.share_pods:
            from motet.timetabling import refuse_sharing

            refuse_sharing(work)

    def on_array(
        self,
        work: Work,
        models: list[SimulatedModel],
        file: str,
        request: CompileRequest,
        form: Format,
    ) -> None:
        """Simulate models whose regions have been timed, and print."""
        from motet.together import on_array

        together = on_array(work, models, lambda: open_or_compile(file, request), self.host)
        if self.question.share_pods:
            from motet.timetabling import shares_asked, sharing

            total = shares_asked(work, models)
            with progress("time shares of the pods", total, lines=True) as show:
                together = sharing(together, work, models, show)
        self._simulate(together, form)

    def _simulate(self, together: Together, form: Format) -> None:
        from motet.bundle_seconds import beyond_the_end, bundle_seconds, over_seeds, plain

        for line in (*together.doubts(), *beyond_the_end(self.question, together)):
            warn(line)
        with progress("simulate", lines=True) as show:
            found = bundle_seconds(together, self.question, show)
        if len(found) == 1:
            [only] = found
            facts = only.to_dict()
            rows = facts["models"]
            if form is Format.TABLE:
                print_seconds(only)
        else:
            whole, models = over_seeds(found)
            facts = {key: plain(value) for key, value in whole.items()}
            facts["seeds"] = [one.seed for one in found]
            facts["models"] = [{k: plain(v) for k, v in model.items()} for model in models]
            rows = [_flat(model) for model in models]
            if form is Format.TABLE:
                print_intervals(found, whole, models)
        if form is Format.JSON:
            print_json(facts)
        elif form is Format.CSV:
            print_csv(rows)


def _flat(model: dict[str, Any]) -> dict[str, Any]:
    """Intervals as two columns: the mean, and half the width."""
    row: dict[str, Any] = {}
    for key, value in model.items():
        held = isinstance(value, Interval)
        row[key] = value.mean if held else value
        if held:
            row[f"{key}_half_width"] = value.half
    return row


_OPTIONS = (
    click.option(
        "--duration", "--seconds", "duration", type=Time(), metavar="T",
        help="Run the models together for T of simulated time, in s (also without a unit), ms, us "
        "or min, by rate_hz, deadline_ms, priority, after and probability; on the host too. "
        "A percentile is a run's own latency.",
    ),
    click.option(
        "--policy", type=click.Choice(list(POLICIES)),
        help=f"Who goes next, chosen anew after every stage.  [default: {DEFAULT_POLICY}]",
    ),
    click.option(
        "--share-pods", is_flag=True,
        help="Run models side by side on shares of the array's pods that move with the load.",
    ),
    click.option("--seed", type=click.IntRange(0), help="Seed of chance.  [default: 0]"),
    click.option(
        "--seeds", type=click.IntRange(1, 10_000),
        help="Simulate so many seeds, and give means with 95 % confidence intervals.",
    ),
    click.option(
        "--arrivals", metavar="periodic|poisson|TRACE.csv",
        help="How frames come; a trace has the columns model,seconds.  [default: periodic]",
    ),
    click.option(
        "--jitter", type=click.FloatRange(0, 1e9), metavar="MS",
        help="Periodic frames come up to so many milliseconds late, uniformly.",
    ),
    click.option(
        "--keep-late", is_flag=True,
        help="Also do frames whose deadline passed before they began; else they are dropped.",
    ),
    click.option(
        "--all-metrics", is_flag=True, help="Also STP, ANTT, fairness and XRBench's scores."
    ),
    click.option(
        "--host", metavar="formula|measured|none|PROFILE.json",
        help="Times of the host's operators: by formula (default on an array), measured now "
        "(default on the host), none, or what motet bench --profile --json printed.",
    ),
    click.option(
        "--threads", type=click.IntRange(1, 1024), help="Threads of the host kernels, measured."
    ),
)  # fmt: skip


def duration_options(command: Command) -> Command:
    """The options of simulated time; the command gets ``duration``, None where there is none."""

    @wraps(command)
    def gathered(
        *arguments: Any,
        duration: Fraction | None,
        policy: str | None,
        seed: int | None,
        seeds: int | None,
        arrivals: str | None,
        jitter: float | None,
        keep_late: bool,
        all_metrics: bool,
        share_pods: bool,
        host: str | None,
        threads: int | None,
        **others: Any,
    ) -> Any:
        given = {
            "policy": policy, "seed": seed, "seeds": seeds, "arrivals": arrivals,
            "jitter": jitter, "keep-late": keep_late or None, "all-metrics": all_metrics or None,
            "share-pods": share_pods or None,
            "host": host, "threads": threads,
        }  # fmt: skip
        stray = next((name for name, value in given.items() if value is not None), None)
        if duration is None:
            if stray is not None:
                raise SpecError(f"--{stray} is of simulated time: give --duration too")
            return command(*arguments, duration=None, **others)
        if jitter is not None and not math.isfinite(jitter):
            raise SpecError("--jitter: give a finite number of milliseconds")
        from motet.bundle_seconds import Question
        from motet.targets.sharing.arrivals import read_trace

        question = Question(
            seconds=duration,
            policy=policy or DEFAULT_POLICY,
            seed=seed or 0,
            seeds=seeds or 1,
            arrivals=arrivals or "periodic",
            jitter_ms=Fraction(str(jitter or 0)),
            keep_late=keep_late,
            all_metrics=all_metrics,
            share_pods=share_pods,
        )
        if question.trace is not None:
            read_trace(question.trace)  # what is wrong with it is told before models are compiled
        asked = Duration(question, host, threads)
        return command(*arguments, duration=asked, **others)

    for option in reversed(_OPTIONS):
        gathered = option(gathered)
    return gathered
