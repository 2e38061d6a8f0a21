"""Whether a trace and the wall-clock that run.json has of its pass can be of one run."""

from __future__ import annotations

from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.errors import TraceError
from qwen3_profile.passes.reading import Reading
from qwen3_profile.run_folder.run_checks import LONGEST_WAIT_NS
from qwen3_profile.run_folder.run_json import Measurement

# Between two clocks.
_LEAST = 0.9


def check_wall(reading: Reading, phase: str, measurement: Measurement) -> None:
    """Refuses a wall-clock that the trace contradicts.

    It began before the trace's step did, and ended after the forward pass and before the step.

    Raises:
        TraceError: it is shorter than the pass, or far longer than the step.
    """
    attribution = reading.traced or reading.attribution
    if attribution is None:
        return
    for index, step in enumerate(attribution.steps):
        if step.number == measurement.step:
            span_ns, wall_ns = step.end_ns - step.start_ns, measurement.profiled_ns
            least_ns = _LEAST * _pass_ns(attribution, phase, index)
            if not least_ns <= wall_ns <= span_ns + LONGEST_WAIT_NS:
                what = f"has a step {step.number} of {span_ns} ns, and run.json says {wall_ns}"
                do = "it is not the trace of this run; record the run again"
                raise TraceError(str(reading.path), what, do)


def _pass_ns(attribution: Attribution, phase: str, step: int) -> int:
    """The longest range of the phase's name in a step, in ns; 0 where there is none."""
    scopes = attribution.scopes
    if phase not in scopes.names:
        return 0
    mine = (scopes.name == scopes.names.index(phase)) & (attribution.scope_step == step)
    return int((scopes.end_ns - scopes.start_ns)[mine].max(initial=0))
