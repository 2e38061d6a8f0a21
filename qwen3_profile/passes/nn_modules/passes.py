"""The forward passes that the outermost module calls of a trace are, each with its phase.

A pass is one call of a model; or, where a model's own call is not in the trace, the calls of its
layers up to the first that repeats. Serving engines write a range around each pass, which says
its phase:

    step[DECODE bs=8]    step[EXTEND bs=15 toks=15360]                        SGLang
    execute_512_context_1(sq512sk512...)_generation_0(sq0sk0...)              vLLM
    execute_new_2_cached_0                                                    vLLM, by requests
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from qwen3_profile import labels
from qwen3_profile.attribution.build_scopes import build_scopes
from qwen3_profile.attribution.scopes import NO_SCOPE, ScopeTree, Step, find_profiler_steps
from qwen3_profile.passes.nn_modules.block_parts import Instance, Node
from qwen3_profile.passes.nn_modules.roles import find_layers, is_after_model, is_holder
from qwen3_profile.trace.columns import Category, Trace

NO_PHASE_SOURCE = "unknown"

_SGLANG = re.compile(r"step\[(?P<mode>[A-Z_]+)\b.*\]")
_SGLANG_PHASES = {"DECODE": "decode", "EXTEND": "prefill", "PREFILL": "prefill"}
_VLLM = re.compile(
    r"execute_(?:\d+_)?context_(?P<context>\d+)(?:\([^)]*\))?_generation_(?P<decode>\d+)"
    r"(?:\([^)]*\))?"
    r"|execute_new_(?P<new>\d+)_cached_(?P<cached>\d+)"
)
# What autograd does on the way back; a module that is called inside it runs once more.
_BACKWARD = "autograd::engine::evaluate_function: "


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time on one track."""

    track: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Annotation:
    """A range of a serving engine around a forward pass. phase: "" where it mixes both."""

    text: str
    phase: str
    span: Span


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass.

    phase: "prefill", "decode", or "forward" where nothing tells.
    phase_source: "annotation: " and its text, or "unknown".
    model: the outermost module that holds the rest; the largest one, where there are several.
    roots: the outermost calls, in order of tracks and time.
    spans: where the pass lies, one for each track; more than one where threads share it.
    step: the `ProfilerStep#k` around it.
    again: modules of it that ran once more, as checkpoints have it, each with where that was.
    """

    phase: str
    phase_source: str
    model: Instance
    roots: tuple[Node, ...]
    spans: tuple[Span, ...]
    step: Step | None
    again: tuple[tuple[Node, Span], ...] = ()

    @property
    def start_ns(self) -> int:
        return min(span.start_ns for span in self.spans)

    @property
    def end_ns(self) -> int:
        return max(span.end_ns for span in (*self.spans, *(span for _, span in self.again)))

    @property
    def instances(self) -> set[Instance]:
        """All modules that it calls."""
        return {each.instance for root in self.roots for each in (root, *_below(root))}


@dataclass(slots=True)
class _Group:
    """The calls of a pass as they are gathered."""

    annotation: Annotation | None
    calls: list[Node] = field(default_factory=list)
    seen: set[Instance] = field(default_factory=set)
    has_model: bool = False

    def add(self, root: Node, *, is_model: bool) -> None:
        self.calls.append(root)
        self.seen.add(root.instance)
        self.has_model |= is_model


def find_passes(trace: Trace, raw: ScopeTree, roots: Sequence[Node]) -> tuple[Pass, ...]:
    """Gathers the outermost calls into forward passes, in time order."""
    steps = find_profiler_steps(trace)
    around = _annotations_around(trace, raw, roots)
    backward = _inside_backward(trace, raw, roots)
    inner = {child.instance for root in roots for child in _below(root)}
    again = [each for each in roots if each.index in backward or each.instance in inner]
    first = [each for each in roots if each not in again]
    joined = _join(raw, _gather(raw, first, around, steps), again)
    return joined or _gather(raw, roots, around, steps)


def _gather(
    raw: ScopeTree,
    roots: Sequence[Node],
    around: Mapping[int, Annotation | None],
    steps: Sequence[Step],
) -> tuple[Pass, ...]:
    by_track: dict[int, list[Node]] = {}
    for root in roots:
        by_track.setdefault(int(raw.track[root.index]), []).append(root)
    found: list[Pass] = []
    for track, mine in by_track.items():
        groups = _group(raw, mine, around)
        spans = _spans(raw, track, groups)
        found += [_pass(g, s, steps) for g, s in zip(groups, spans, strict=True)]
    return _merge_concurrent(raw, sorted(found, key=lambda item: item.start_ns))


def _inside_backward(trace: Trace, raw: ScopeTree, roots: Sequence[Node]) -> frozenset[int]:
    """The calls that autograd makes on the way back, by `Node.index`."""
    named = np.array([name.startswith(_BACKWARD) for name in trace.names], bool)
    if not named.any():
        return frozenset()
    chosen = named[trace.host.name] & (trace.host.category == Category.CPU_OP)
    tree = build_scopes(trace, chosen, name_gaps=False)
    index = np.array([root.index for root in roots])
    inside = tree.innermost(raw.track[index], raw.start_ns[index])
    return frozenset(index[inside != NO_SCOPE].tolist())


def _join(raw: ScopeTree, passes: Sequence[Pass], again: Sequence[Node]) -> tuple[Pass, ...] | None:
    """The passes with the modules that ran once more, as checkpoints have it, in the pass before.

    None where one of them is of no such pass, or not behind it and before the next.
    """
    found = list(passes)
    ends = [item.start_ns for item in passes[1:]]
    for root in sorted(again, key=lambda each: int(raw.start_ns[each.index])):
        start_ns, end_ns = int(raw.start_ns[root.index]), int(raw.end_ns[root.index])
        at = bisect_right([item.start_ns for item in found], start_ns) - 1
        if at < 0 or root.instance not in found[at].instances or end_ns == start_ns:
            return None
        item, span = found[at], Span(int(raw.track[root.index]), start_ns, end_ns)
        mine = [each.end_ns for each in item.spans if each.track == span.track]
        if start_ns < max(mine, default=0) or any(end_ns > end for end in ends[at : at + 1]):
            return None
        found[at] = replace(item, again=(*item.again, (root, span)))
    return tuple(found)


def _below(node: Node) -> Iterator[Node]:
    for child in node.children:
        yield child
        yield from _below(child)


def read_phase(text: str) -> str | None:
    """The phase that an annotation tells, "" if it mixes several, None if it is no such thing."""
    if text in labels.PHASES:
        return text
    match = _SGLANG.fullmatch(text)
    if match:
        return _SGLANG_PHASES.get(match["mode"], "")
    match = _VLLM.fullmatch(text)
    if not match:
        return None
    context = int(match["context"] or match["new"]) > 0
    decode = int(match["decode"] or match["cached"]) > 0
    return "prefill" if context and not decode else "decode" if decode and not context else ""


def _annotations_around(
    trace: Trace, raw: ScopeTree, roots: Sequence[Node]
) -> dict[int, Annotation | None]:
    """The innermost range of a serving engine around each root, by `Node.index`."""
    phases = [read_phase(name) for name in trace.names]
    told = np.array([phase is not None for phase in phases], bool)
    chosen = told[trace.host.name] & (trace.host.category == Category.USER_ANNOTATION)
    tree = build_scopes(trace, chosen, name_gaps=False)
    index = np.array([root.index for root in roots])
    inside = tree.innermost(raw.track[index], raw.start_ns[index]).tolist()
    known: dict[int, Annotation | None] = {NO_SCOPE: None}
    for i in set(inside) - {NO_SCOPE}:
        span = Span(int(tree.track[i]), int(tree.start_ns[i]), int(tree.end_ns[i]))
        known[i] = Annotation(tree.names[tree.name[i]], phases[tree.name[i]] or "", span)
    return {root.index: known[i] for root, i in zip(roots, inside, strict=True)}


def _group(
    raw: ScopeTree, roots: Sequence[Node], around: Mapping[int, Annotation | None]
) -> list[_Group]:
    """The roots of one track, pass by pass."""
    groups: list[_Group] = []
    only_leaves = not any(root.children for root in roots)
    # Several of them are the stretches of one model that is called piece by piece.
    pieces = len({root.instance for root in roots if is_holder(root)}) > 1
    for root in roots:
        is_layer = find_layers(root)[:1] == (root,)
        is_model = bool(root.children or only_leaves) and not is_after_model(root) and not is_layer
        is_model = is_model and not (pieces and is_holder(root))
        told = around[root.index]
        if not groups or not _belongs(raw, root, told, groups[-1], is_model):
            groups.append(_Group(told))
        groups[-1].add(root, is_model=is_model or is_layer)
    return groups


def _belongs(
    raw: ScopeTree, root: Node, around: Annotation | None, group: _Group, is_model: bool
) -> bool:
    """Whether an outermost call is of the pass that was gathered last."""
    if around is not None and around == group.annotation:
        return True
    if around is None and group.annotation is not None and is_model:
        return False
    first = int(raw.start_ns[group.calls[0].index])
    if around is not None and not around.span.start_ns <= first < around.span.end_ns:
        return False
    return root.instance not in group.seen and not (is_model and group.has_model)


def _spans(raw: ScopeTree, track: int, groups: Sequence[_Group]) -> list[Span]:
    """Each pass with its annotation, as far as that covers no other pass."""
    hulls = [
        (int(raw.start_ns[g.calls[0].index]), int(raw.end_ns[g.calls[-1].index])) for g in groups
    ]
    found: list[Span] = []
    for at, (group, (start, end)) in enumerate(zip(groups, hulls, strict=True)):
        if group.annotation is not None:
            following = hulls[at + 1][0] if at + 1 < len(groups) else group.annotation.span.end_ns
            previous = found[-1].end_ns if found else group.annotation.span.start_ns
            start = min(start, max(group.annotation.span.start_ns, previous))
            end = max(end, min(group.annotation.span.end_ns, following))
        found.append(Span(track, start, end))
    return found


def _pass(group: _Group, span: Span, steps: Sequence[Step]) -> Pass:
    told = group.annotation
    phase = told.phase if told is not None and told.phase else labels.NEUTRAL_PHASE
    models = sorted(group.calls, key=lambda call: _size(call), reverse=True)
    step = next((s for s in steps if s.start_ns <= span.start_ns < s.end_ns), None)
    return Pass(
        phase=phase,
        phase_source=NO_PHASE_SOURCE if told is None else f"annotation: {told.text}",
        model=models[0].instance,
        roots=tuple(group.calls),
        spans=(span,),
        step=step,
    )


def _size(node: Node) -> int:
    return 1 + sum(_size(child) for child in node.children)


def _merge_concurrent(raw: ScopeTree, passes: Sequence[Pass]) -> tuple[Pass, ...]:
    """One pass in place of those that overlap in time, as replicas on several threads do.

    What is launched while two passes are open cannot be told to one of their stretches of time.
    """
    found: list[Pass] = []
    for item in passes:
        before = found[-1] if found else None
        # Nor of two of which one begins with a call of the other, where nothing takes any time.
        calls = [int(raw.start_ns[root.index]) for root in before.roots] if before else []
        if before is None or item.start_ns >= max(before.end_ns, *(ns + 1 for ns in calls)):
            found.append(item)
            continue
        same = before.phase == item.phase
        larger = max((before, item), key=lambda p: sum(_size(root) for root in p.roots))
        found[-1] = replace(
            before,
            phase=before.phase if same else labels.NEUTRAL_PHASE,
            phase_source=before.phase_source if same else NO_PHASE_SOURCE,
            model=larger.model,
            roots=(*before.roots, *item.roots),
            spans=_hulls((*before.spans, *item.spans)),
        )
    return tuple(found)


def _hulls(spans: Sequence[Span]) -> tuple[Span, ...]:
    """One span for each track, around those on it."""
    found: dict[int, Span] = {}
    for span in spans:
        known = found.setdefault(span.track, span)
        start, end = min(known.start_ns, span.start_ns), max(known.end_ns, span.end_ns)
        found[span.track] = Span(span.track, start, end)
    return tuple(found.values())
