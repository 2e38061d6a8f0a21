"""The sentences that answer the six questions of a report on one config."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from qwen3_profile.analysis.distribution import shape_sentences
from qwen3_profile.analysis.explain import energy_sentences
from qwen3_profile.analysis.layer_times import CPU, CUDA
from qwen3_profile.analysis.median_pass import ns_of
from qwen3_profile.analysis.odd_layers import FEWEST_EQUALS, odd_layers
from qwen3_profile.analysis.part_rows import family_times
from qwen3_profile.analysis.pass_sentences import (
    all_findings,
    idle_classes,
    idle_sentences,
    largest_parts,
    noise,
    severe_findings,
    source_sentence,
    unattributed_share,
)
from qwen3_profile.analysis.piece_costs import piece_sentences
from qwen3_profile.analysis.verdict import DeviceShare
from qwen3_profile.labels import WHOLE_TRACE
from qwen3_profile.records.quantiles import median, token_times
from qwen3_profile.records.summary import spread
from qwen3_profile.run_folder.routing import routing_sentence
from qwen3_profile.views.names import PASS_NAMES
from qwen3_profile.views.report.section_data import Config

_NS_PER_MS = 1e6
_NAMED = 3
_NO_TRACE = "The raw trace is missing; records hold sums only."
_NO_OPERATORS = "The trace holds no operators inside these labels."
# Of all: less than this would be printed as 0 %.
_LEAST_SHARE = 0.005

Sentences = tuple[str, ...]


def time_answer(config: Config) -> Sentences:
    """How long did it take, and can I trust it?"""
    asked = (_bare, _eager, _overhead, _unattributed)
    told = (line for each in asked for line in each(config))
    return (*told, *energy_sentences(config.shown), _findings(config))


def parts_answer(config: Config) -> Sentences:
    """Where did the time go?"""
    kind = "CUDA" if config.on_device else "CPU"
    total = ns_of(config.shown.times.forward.total, config.on_device)
    if not total:
        return (f"No {kind} time was recorded.",)
    largest = largest_parts(config.shown.times.forward, config.on_device)
    pieces = piece_sentences(config.shown.times.forward, config.on_device)
    return (f"{_families(config, kind, total)}.", largest, *pieces)


def _families(config: Config, kind: str, total: int) -> str:
    """The whole time, by kinds of parts where the model's are known."""
    families: Counter[str] = Counter()
    for family, times in family_times(config.rows).items():
        families[family] = ns_of(times, config.on_device)
    shares = [_family_share(name, ns / total) for name, ns in families.most_common() if ns]
    if len(shares) == 1:
        return f"{kind} time of all parts: {ms(total)} ms"
    return f"Of {ms(total)} ms of {kind} time: {', '.join(shares)}"


def _family_share(family: str, share: float) -> str:
    said = f"{share:.0%}" if share >= _LEAST_SHARE else "<1%"
    return {
        "attention": f"attention {said}",
        "ffn": f"FFN {said}",
        "norms": f"norms {said}",
        "embedding": f"embedding {said}",
        "head": f"head {said}",
        "other": f"other {said}",
    }[family]


def layers_answer(config: Config) -> Sentences:
    """Which layer?"""
    times = config.layers
    count = len(times.layers)
    if not count:
        return ("The trace shows no layers.",)
    kind = "CUDA" if config.on_device else "CPU"
    by_layer = times.of(CUDA if config.on_device else CPU).sum(axis=1)
    most = int(by_layer.argmax())
    if count == 1:
        return (f"The only layer takes {ms(int(by_layer[0]))} ms of {kind} time.",)
    first = (
        f"The {count} layers take {ms(int(by_layer.sum()))} ms of {kind} time: median "
        f"{ms(float(median(by_layer.tolist())))} ms, slowest layer {times.layers[most]} with "
        f"{ms(int(by_layer[most]))} ms."
    )
    model = config.shown.facts.model
    routing = routing_sentence(config.shown.routing, model.weights if model else "")
    return tuple(filter(None, (first, *_standing_out(config), routing)))


def waits_answer(config: Config) -> Sentences:
    """What does the device wait for?"""
    if config.share is None:
        return ("CPU-only run: no GPU idle time.",)
    times = config.shown.times
    launch_ns, events = times.forward.total.launch_ns, times.device_events
    waiting = Counter(
        {row.path: row.times.gap_ns for row in config.rows if row.is_leaf and row.times.gap_ns}
    )
    named = ", ".join(
        f"{path[-1]} ({ms(ns)} ms)"
        for path, ns in waiting.most_common(_NAMED)
        if ns >= _LEAST_SHARE * waiting.total()
    )
    return (
        config.share.sentence,
        _idle(config, config.share),
        *((f"Most of it before {named}.",) if named else ()),
        *idle_sentences(config.shown),
        f"In the traced pass the CPU spent {ms(launch_ns)} ms in launch and synchronisation "
        f"calls, for {with_commas(events, 'device event')}.",
    )


def _idle(config: Config, share: DeviceShare) -> str:
    """Busy and idle time of the pass that tables and pictures show, which add up."""
    classes = idle_classes(share.idle)
    busy_ns, gap_ns = share.busy_and_idle_ns(config.shown.times)
    busy, gap, whole = ms(busy_ns), ms(gap_ns), ms(busy_ns + gap_ns)
    if share.is_trace:
        return f"The trace takes {whole} ms: GPU busy {busy} ms, idle {gap} ms ({classes})."
    if not share.is_bare:
        return f"The pass shown takes {whole} ms: GPU busy {busy} ms, idle {gap} ms ({classes})."
    if config.shown.idle_source == "device":
        return (
            f"The device pass shown takes {whole} ms: GPU busy {busy} ms, idle {gap} ms "
            f"({classes})."
        )
    return f"The traced pass shown takes {whole} ms: GPU busy {busy} ms, idle {gap} ms ({classes})."


def kernels_answer(config: Config) -> Sentences:
    """Which kernels? Of a pass without a device, which operators."""
    if config.trace is None:
        return (_NO_TRACE,)
    if not config.trace.kernels:
        return (_NO_OPERATORS,)
    kernels = config.trace.kernels
    total = sum(each.total_ns for each in kernels)
    kinds = with_commas(len({each.name for each in kernels}), "kind")
    events = sum(each.calls for each in kernels)
    top = kernels[0]
    share = f" ({top.total_ns / total:.1%})" if total else ""
    where = f"in the part {top.part[-1]}" if top.part else "outside any label"
    calls = with_commas(top.calls, "call")
    if config.share is None:
        made = with_commas(events, "operator call")
        return (
            "CPU-only run: no kernels; these are the CPU operators.",
            f"{made} of {kinds}, made by the labelled code itself: {ms(total)} ms in total.",
            f"{top.name} {where} took the most: {ms(top.total_ns)} ms{share}, {calls}.",
        )
    by = f", launched by {top.op}" if top.op else ""
    return (
        f"{with_commas(events, 'device event')} of {kinds} ran for {ms(total)} ms in total.",
        f"One kernel {where} took the most: {ms(top.total_ns)} ms{share}, {calls}{by}.",
    )


def timeline_answer(config: Config) -> Sentences:
    """What does a forward pass look like?"""
    if config.trace is None:
        return (_NO_TRACE,)
    timeline = config.trace.timeline
    if timeline.slower is not None:
        return (
            f"Labels span {ms(config.shown.times.forward.total.cpu_ns)} ms, in the clock pass. "
            f"Device events are from the device pass, which took {timeline.slower:.2f}x as long.",
        )
    first = f"The time line spans {ms(timeline.span_ns)} ms"
    if config.share is None:
        return (f"{first}, all of it on the CPU.",)
    queue = timeline.queue
    if not queue.deepest:
        return (f"{first}.",)
    empty = queue.empty_ns / timeline.span_ns
    return (
        f"{first}: at most {queue.deepest:,} launches in flight, none for {empty:.0%} of the time.",
    )


# The sections of the page, and who answers each.
ANSWERS = {
    "time": time_answer,
    "parts": parts_answer,
    "layers": layers_answer,
    "waits": waits_answer,
    "kernels": kernels_answer,
    "timeline": timeline_answer,
}


def ms(ns: float) -> str:
    """Milliseconds to the microsecond."""
    return f"{ns / _NS_PER_MS:.3f}"


def _bare(config: Config) -> Iterable[str]:
    """The time without the profiler, and how much it varies."""
    unit = PASS_NAMES.get(config.shown.phase, "forward pass")
    totals = config.totals
    steps = totals.steps_ns
    bare = totals.all_bare_ns
    if not bare:
        yield _recorded(config, unit)
        yield "A lone trace does not show the time without the profiler."
        return
    stats = spread(bare)
    first = f"One {unit} takes {ms(stats['median'])} ms without the profiler"
    if len(bare) == 1:
        yield f"{first} (one bare pass, so its noise is unknown)."
    else:
        yield (
            f"{first}: median of {len(bare):,} bare passes, from {ms(stats['min'])} to "
            f"{ms(stats['max'])} ms."
        )
    if noisy := noise(bare):
        yield f"That is noisy: {noisy}."
    yield from shape_sentences(totals.runs_ns)
    if rates := totals.tokens_per_second:
        rate = f"{median(rates):,.1f} tokens per second"
        yield f"{rate} {'generated' if steps else 'of input'}, whole batch."
    if steps:
        times = token_times(steps)
        yield f"Steps: p90 {ms(times.p90)} ms, p99 {ms(times.p99)} ms."


def _recorded(config: Config, unit: str) -> str:
    """The CPU time of a pass that is known from a trace alone."""
    cpu_ns = median(each.times.forward.total.cpu_ns for each in config.passes)
    took, count = ms(cpu_ns), len(config.passes)
    if config.shown.phase == WHOLE_TRACE:
        return f"The ranges of the trace took {took} ms of CPU time, including profiler overhead."
    if count > 1:
        return (
            f"One {unit} took {took} ms of CPU time, including profiler overhead (median of "
            f"{count} in the trace)."
        )
    return f"One {unit} took {took} ms of CPU time, including profiler overhead."


def _eager(config: Config) -> Iterable[str]:
    """Of replays of a graph, the eager passes next to them."""
    speedup = config.totals.graph_speedup
    if speedup is not None:
        yield (
            "Replayed as a CUDA graph; the same pass run eagerly takes "
            f"{ms(speedup.eager_ns)} ms, {speedup.ratio:.2f}x as long."
        )


def _overhead(config: Config) -> Iterable[str]:
    """From which passes the times are, and how far those were from bare."""
    told = source_sentence(config.totals)
    if told:
        yield told


def _unattributed(config: Config) -> Iterable[str]:
    if config.share is None:
        return
    times = config.shown.times
    if not times.unattributed_ns:
        yield "All device events are attributed."
        return
    reasons = ", ".join(item.reason for item in times.unattributed)
    yield (
        f"{ms(times.unattributed_ns)} ms of GPU time ({unattributed_share(times):.1%}) "
        f"unattributed: {reasons}."
    )


def _findings(config: Config) -> str:
    severe = severe_findings(config.passes)
    if severe:
        return f"{with_commas(len(severe), 'finding')} in the traces, listed below."
    if notes := len(all_findings(config.passes)):
        return f"No finding that puts a time in doubt; {with_commas(notes, 'note')} below."
    return "No findings: the traces pass all checks."


def _standing_out(config: Config) -> Iterable[str]:
    if len(config.layers.layers) < FEWEST_EQUALS:
        return
    if config.odd.why_not:
        yield f"Whether any is an outlier cannot be told: {config.odd.why_not}."
    if not config.odd.is_judged:
        return
    odd = odd_layers(config.odd.outliers, config.on_device)
    if not odd:
        yield "No outlier layers."
        return
    first = next(iter(odd.values()))
    what = first.part or "whole layer"
    kind = "CUDA" if first.kind == CUDA else "CPU"
    yield f"Largest outlier: layer {first.layer}, {what}: {ms(first.ns)} ms of {kind} time."
    yield f"That is {first.ratio:.1f}x the median of comparable layers."
    if first.is_first:
        yield "It is the first layer of its kind."
    if len(odd) > 1:
        yield f"{with_commas(len(odd) - 1, 'more outlier layer')}."


def with_commas(count: int, noun: str) -> str:
    """`1 layer`, `2 layers`, with the number's thousands apart."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
