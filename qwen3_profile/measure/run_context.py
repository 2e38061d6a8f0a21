"""A loaded model and a config in, its results out: what was measured, and what became of it."""

from __future__ import annotations

from dataclasses import replace

from qwen3_profile.config import RunConfig
from qwen3_profile.errors import ProfileError, RunError, in_words
from qwen3_profile.labels import fold_layers
from qwen3_profile.measure.measurement import Measuring, Run, Site
from qwen3_profile.measure.model.load import set_attention, set_experts
from qwen3_profile.measure.model.memory import check_room, is_out_of_memory, out_of_memory
from qwen3_profile.run_folder.routing import LayerRouting
from qwen3_profile.run_folder.run_json import ConfigResult


class Capture(Site):
    """Runs one config on one model, and keeps what was measured when something goes wrong."""

    __slots__ = ()

    def run(self, index: int, config: RunConfig, worker: str) -> tuple[ConfigResult, ...]:
        """Warms up, then takes a bare and a traced generation per measured run.

        Returns:
            A result for the prefill or the training step and, where the config has decode steps,
            one for them; with status "failed" or "interrupted" and the measurements so far where
            it did not come to its end.
        """
        result = unmeasured(index, config, worker)
        runs: list[Run] = []
        routing: dict[str, tuple[LayerRouting, ...]] = {}
        traffic: dict[str, str] = {}
        try:
            attn = set_attention(self.loaded, config.attn_implementation)
            result = replace(result, attn_implementation=attn)
            experts = set_experts(self.loaded, config.experts_implementation)
            result = replace(result, experts_implementation=experts)
            loaded = self.loaded
            if loaded.facts.is_qwen3:
                check_room(loaded.facts.shape, config, attn, loaded.model.dtype, self.device)
            measuring = self.measuring(config, worker)
            result = replace(result, lengths=measuring.inputs.lengths)
            with measuring.opened():
                for run in measuring.runs():
                    runs.append(run)
                result, traffic = self._traffic(result, measuring)
            routing = measuring.routing()
        except KeyboardInterrupt:
            error = f"config {worker}: interrupted after {len(runs)} of {config.num_runs} runs"
            result = replace(result, status="interrupted", error=error)
        # The model's code is the library's, and may raise anything.
        except Exception as error:
            told = self._run_error(config, result.attn_implementation, error)
            result = replace(result, status="failed", error=str(told))
        return tuple(
            replace(
                each,
                routing=routing.get(each.phase, ()),
                traffic=traffic.get(each.phase, ""),
            )
            for each in _by_phase(result, worker, runs)
        )

    def _traffic(
        self, result: ConfigResult, measuring: Measuring
    ) -> tuple[ConfigResult, dict[str, str]]:
        """Phase -> the file of what its passes move, which takes one generation more.

        Code that cannot run under torch's dispatch modes costs the bytes, not the measurement.
        """
        try:
            return result, measuring.traffic()
        except Exception as error:
            return replace(result, uncounted=in_words(error)), {}

    def measuring(self, config: RunConfig, worker: str) -> Measuring:
        """What takes the passes of one config."""
        return Measuring(self, config, worker)

    def _run_error(self, config: RunConfig, attention: str, error: Exception) -> RunError:
        if isinstance(error, RunError):
            return error
        if isinstance(error, ProfileError):
            return RunError(f"config {config.worker}: {error.where}", error.what, error.do)
        if is_out_of_memory(error):
            return out_of_memory(config, attention, self.device, error)
        return RunError(f"config {config.worker}", in_words(error))


def unmeasured(index: int, config: RunConfig, worker: str) -> ConfigResult:
    """The result of a config before its first measured run."""
    return ConfigResult(
        index=index,
        config=config,
        worker=f"{worker}_{config.first_phase}",
        phase=config.first_phase,
        status="done",
        error="",
        attn_implementation="",
        unlabelled=(),
        trace="",
        measurements=(),
    )


def _by_phase(result: ConfigResult, worker: str, runs: list[Run]) -> tuple[ConfigResult, ...]:
    """The first phase's result and, if there was any decoding, its; an error is told once."""
    if not runs:
        return (result,)
    labels = runs[-1].labels
    result = replace(
        result,
        unlabelled=labels.missing,
        replaced=labels.replaced,
        labels=fold_layers(labels.expected, labels.num_layers),
        compiled=runs[-1].compiled,
    )
    first = replace(result, measurements=tuple(run.first for run in runs))
    if not result.config.decode_steps:
        return (first,)
    decode = replace(
        result,
        phase="decode",
        worker=f"{worker}_decode",
        error="",
        measurements=tuple(each for run in runs for each in run.decode),
        step_times_ns=tuple(run.step_times_ns for run in runs),
    )
    return (first, decode)
