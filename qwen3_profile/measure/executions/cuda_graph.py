"""Forward passes as CUDA graphs: captured and replayed on fixed tensors, and eager beside that.

A graph replays the same kernels on the same memory. So its input, its cache and what counts the
tokens in the cache stay where they are, and a decode step leaves the next token and its position in
the place from which the next step reads them: replay after replay is step after step, as serving
engines do it.

Each phase is measured with the same batch from the same state each time:

    bare     eager passes                        the time that the graph saves is theirs
             capture, replays                    total_time
    traced   eager passes                        what launched each kernel, in the graph's order
             one more, on the code for captures  in case that the graph launches other kernels
             capture, replays                    the kernels themselves

No capture lies in a session of the profiler, and no graph lives through the detaching of CUPTI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch

from qwen3_profile.config import RunConfig
from qwen3_profile.errors import RunError, one_line
from qwen3_profile.measure.executions.eager import EagerExecution, decoding_aside, whole_mask
from qwen3_profile.measure.executions.graph_annotations import annotated_capture, plain_capture
from qwen3_profile.measure.model.inputs import Inputs
from qwen3_profile.measure.model.kv_cache import (
    cache_keyword,
    counters,
    forget_states,
    slides,
    states,
    static_cache,
    takes_positions,
)
from qwen3_profile.measure.model.memory import is_out_of_memory
from qwen3_profile.measure.pass_kinds import WITHOUT_CLOCK, PassKind, PassSeries, SeriesOfPasses
from qwen3_profile.measure.ranges import Phase, leaf

# How far logits may be from those of the eager pass, as a share of the largest of these. Captured
# code may take another attention kernel; through all layers that is a few of the dtype's steps.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
_WARM_UPS = 2


class FixedPass:
    """A prefill, or the decode steps after one, on tensors that stay in their place.

    Args:
        model: of a `LoadedModel`.
        inputs: the batch; it is prefilled here.
        config: its cache kind, and how many tokens the cache has to hold.
        phase: which of the two.
    """

    @torch.inference_mode()
    def __init__(self, model: Any, inputs: Inputs, config: RunConfig, phase: Phase) -> None:
        batch_size, input_len = inputs.ids.shape
        length = input_len + config.decode_steps
        self._model = model
        self._chooses = config.decode_steps > 0
        self._takes_positions = takes_positions(model)
        self._keyword = cache_keyword(model)
        self._cache = static_cache(model, batch_size, length) if config.cache == "static" else None
        if self._cache is not None and slides(self._cache, length):
            what = f"a sliding window of fewer than {length} tokens is moved by the host"
            raise RunError(f"config {config.worker}", what, "take a smaller --input-len")
        self._ids = inputs.ids
        self._positions = torch.arange(input_len, device=inputs.ids.device)
        self._mask, self._token_positions = whole_mask(inputs.mask, config.decode_steps)
        self._seen = input_len
        self._next = torch.zeros_like(inputs.ids[:, -1:])
        self._advanced: tuple[torch.Tensor, ...] = ()
        self.logits: torch.Tensor | None = None
        self.run()  # a static cache is allocated by its first tokens
        self._start = [(each, torch.zeros_like(each)) for each in counters(self._cache)]
        if phase == "decode":
            self._ids, self._positions = self._next, self._positions[-1:] + 1
            self._seen, self._advanced = length, (self._ids, self._positions)
            advanced = (*counters(self._cache), *states(self._cache), *self._advanced)
            self._start = [(each, each.clone()) for each in advanced]
        self.rewind()

    @torch.inference_mode()
    def run(self) -> None:
        """The pass; `logits` are its own until the next one."""
        given = {self._keyword: self._cache}
        if self._takes_positions:
            given["cache_position"] = self._positions
        if self._mask is not None and self._token_positions is not None:
            given["attention_mask"] = self._mask[:, : self._seen]
            given["position_ids"] = self._token_positions.index_select(1, self._positions)
        output = self._model(
            input_ids=self._ids,
            use_cache=True,
            logits_to_keep=1,
            **given,
        )
        self.logits = output.logits
        if self._chooses:
            with leaf("sample"):
                torch.argmax(output.logits[:, -1:], -1, out=self._next)
        if self._advanced and (self._takes_positions or self._mask is not None):
            self._positions.add_(1)

    def run_as_captured(self) -> None:
        """The pass on the code that the model has for captures."""
        with as_captured():
            self.run()

    @torch.inference_mode()
    def rewind(self) -> None:
        """Back to the first step: what the cache holds beyond it is not seen, and overwritten."""
        if not self._advanced:
            forget_states(self._cache)
        for tensor, value in self._start:
            tensor.copy_(value)


class Graph:
    """What one run of a `FixedPass` launches, captured; its state is back at the first step.

    labels: node id -> label, where it was to be marked and torch can; else empty.

    Args:
        forward: the pass; its model is labelled where the nodes are to be marked.
        where: what an error names.
        marked: whether to ask torch for the label of each node.

    Raises:
        RunError: it cannot be captured, or its replay computes something else.
    """

    def __init__(self, forward: FixedPass, where: str, *, marked: bool = False) -> None:
        self._graph = torch.cuda.CUDAGraph()
        capture = annotated_capture if marked else plain_capture
        forward.rewind()
        eager = self._warm_up(forward)
        forward.rewind()
        before = torch.cuda.current_stream()
        try:
            with capture(self._graph) as self.labels:
                forward.run()
        except RuntimeError as error:
            first = _first(error)
            if is_out_of_memory(first):
                raise first from error
            what = f"cannot be captured as a graph: {one_line(str(first))[:300]}"
            raise RunError(where, what, "leave out --cuda-graph for it") from error
        finally:
            # A capture that fails leaves its own stream in place.
            torch.cuda.set_stream(before)
        forward.rewind()
        self.replay()
        check_logits(where, forward.logits, eager)
        forward.rewind()

    def replay(self) -> None:
        """Launches the graph."""
        self._graph.replay()

    def pool_bytes(self) -> int:
        """What the graph's own pool holds of the device: nothing else gets it while the graph
        lives.
        """
        mine = tuple(self._graph.pool())
        segments = torch.cuda.memory_snapshot()  # type: ignore[no-untyped-call]
        return sum(e["total_size"] for e in segments if tuple(e["segment_pool_id"]) == mine)

    def release(self) -> None:
        """Frees the graph and its memory."""
        self._graph.reset()

    def _warm_up(self, forward: FixedPass) -> torch.Tensor:
        """Runs on a stream of its own, as captures do, and gives the first logits."""
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                forward.rewind()
                forward.run()
            assert forward.logits is not None
            logits = forward.logits.clone()
        torch.cuda.synchronize()
        return logits


def _first(error: BaseException) -> BaseException:
    """What went wrong first: the end of a capture that has failed fails once more."""
    while isinstance(error.__context__, Exception):
        error = error.__context__
    return error


def check_logits(where: str, graph: torch.Tensor | None, eager: torch.Tensor) -> None:
    """Makes sure that a replay computes what the eager pass does.

    Raises:
        RunError: the logits are further apart than rounding can bring them.
    """
    assert graph is not None
    tolerance = _TOLERANCE[eager.dtype]
    scale = float(eager.float().abs().max())
    apart = float((graph.float() - eager.float()).abs().max())
    if not apart <= tolerance * scale:  # nor where one is not a number
        raise RunError(
            where,
            f"the graph's logits are {apart:.3g} from those of the eager pass, which reach "
            f"{scale:.3g}; {tolerance:.0%} of that is rounding",
            "leave out --cuda-graph for it",
        )


@contextmanager
def as_captured() -> Iterator[None]:
    """Lets a model run the code that it has for captures, eagerly.

    Code that would read a value back from the device asks first whether a capture is under way. So
    a captured pass may launch other kernels than an eager one; run so, the eager one launches them.
    """
    asked = torch.cuda.is_current_stream_capturing
    torch.cuda.is_current_stream_capturing = lambda: True
    try:
        yield
    finally:
        torch.cuda.is_current_stream_capturing = asked


class CudaGraphExecution(EagerExecution):
    """Each phase as a graph, and beside its replays the eager passes that they repeat."""

    kinds: tuple[PassKind, ...] = WITHOUT_CLOCK

    def passes(self, kind: PassKind) -> SeriesOfPasses:
        for phase in self.phases:
            yield from self._phase(phase, kind)

    def counted(self) -> SeriesOfPasses:
        """On the code that is captured; of a decode the first step: a graph launches the same."""
        for phase in self.phases:
            forward = self._fixed(phase)
            yield PassSeries(phase, forward.run_as_captured, lead_in=forward.run)

    def _phase(self, phase: Phase, kind: PassKind) -> SeriesOfPasses:
        forward, config = self._fixed(phase), self.config
        is_decode = phase == "decode"
        eager = PassSeries(
            phase,
            forward.run,
            decoding_aside(self._model, self._inputs),
            config.decode_steps if is_decode else 1,
            config.traced_positions if is_decode else (0,),
            variant="eager",
        )
        _to_first_step(forward, forward.run, kind)
        yield eager
        if kind.tells_launches:
            forward.rewind()
            code = forward.run_as_captured
            yield replace(eager, forward=code, steps=1, chosen=(0,), variant="captured")
        attached = self._recorder.attached(eager.lead_in) if kind.in_session else nullcontext()
        with attached:
            graph = Graph(forward, f"config {config.worker}", marked=kind.tells_launches)
            _to_first_step(forward, graph.replay, kind)
            yield replace(
                eager,
                forward=graph.replay,
                variant="",
                rewind=forward.rewind,
                nodes=graph.labels,
                pool_bytes=graph.pool_bytes,
            )
            graph.release()

    def _fixed(self, phase: Phase) -> FixedPass:
        return FixedPass(self._model, self._inputs, self.config, phase)


def _to_first_step(forward: FixedPass, run: Callable[[], None], kind: PassKind) -> None:
    """Rewinds a pass; without sessions, whose lead-ins come before each, one is run beforehand."""
    forward.rewind()
    if not kind.in_session:
        run()
        forward.rewind()
