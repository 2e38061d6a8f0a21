"""The module calls of a trace with stacks as scopes under our label names.

Torch writes a range for every call of a module (`nn.Module: Qwen3DecoderLayer_7`, category
python_function) when it records with stacks. `module_roles` says which part each of them is; here
the calls are gathered into forward passes, and each pass gets its phase.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from qwen3_profile.attribution.build_scopes import build_scopes
from qwen3_profile.attribution.gaps import with_gaps
from qwen3_profile.attribution.scopes import NO_SCOPE, ScopeTree, Step
from qwen3_profile.passes.nn_modules.block_parts import Instance, Node, module_gap_name
from qwen3_profile.passes.nn_modules.passes import Pass, Span, find_passes
from qwen3_profile.passes.nn_modules.roles import find_layers, name_pass, usual_depth
from qwen3_profile.trace.columns import Bool, Category, Trace
from qwen3_profile.trace.event_keys import MODULE_PREFIX

_MODULE = re.compile(re.escape(MODULE_PREFIX) + r"(.+)_(\d{1,18})")
# Python itself nests no deeper; beyond this a file is damaged, and what is deeper is put beside.
_MOST_NESTED = 200


@dataclass(frozen=True, slots=True, eq=False)
class ModuleScopes:
    """The forward passes of a trace.

    scopes: their modules by our names, inside one scope per pass whose name is the phase.
    passes: in time order. steps: the stretch of time of each pass, up to the next one.
    """

    scopes: ScopeTree
    passes: tuple[Pass, ...]
    steps: tuple[Step, ...]


def build_module_scopes(trace: Trace) -> ModuleScopes | None:
    """The module calls of `trace` as scopes of our grammar; None where it has no module calls."""
    raw = build_scopes(trace, _select_modules(trace), name_gaps=False, depth=_depth)
    if not len(raw):
        return None
    roots = _nodes(raw)
    passes = find_passes(trace, raw, roots)
    names = _name_all(passes)
    tree = with_gaps(_renamed(raw, passes, names), module_gap_name)
    return ModuleScopes(_without_idle_gaps(tree, trace), passes, _steps(trace, passes))


def _select_modules(trace: Trace) -> Bool:
    known = np.array([_instance(name) is not None for name in trace.names], bool)
    mask: Bool = known[trace.host.name] & (trace.host.category == Category.PYTHON_FUNCTION)
    return mask


@lru_cache(maxsize=65536)
def _instance(name: str) -> Instance | None:
    """`nn.Module: Linear_7` -> ("Linear", 7)."""
    match = _MODULE.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def _depth(name: str) -> int:
    instance = _instance(name)
    return usual_depth(instance[0]) if instance else 0


def _nodes(raw: ScopeTree) -> tuple[Node, ...]:
    """The outermost calls with all that is in them, by track and time."""
    parents = raw.parent.tolist()
    depth = [0] * len(raw)
    for i, parent in enumerate(parents):
        if parent == NO_SCOPE:
            continue
        if depth[parent] == _MOST_NESTED:
            parent = parents[i] = parents[parent]
        depth[i] = depth[parent] + 1
    below: dict[int, list[Node]] = {}
    names = raw.name.tolist()
    for i in range(len(raw) - 1, -1, -1):
        instance = _instance(raw.names[names[i]])
        assert instance is not None
        node = Node(i, instance, tuple(reversed(below.pop(i, []))))
        below.setdefault(parents[i], []).append(node)
    return tuple(reversed(below[NO_SCOPE]))


def _name_all(passes: Sequence[Pass]) -> dict[int, str]:
    """The label of each module call, by its index in the raw tree."""
    layer_of = _number_layers(passes)
    names: dict[int, str] = {}
    for item in passes:
        again = [root for root, _ in item.again]
        names |= name_pass((*item.roots, *again), layer_of[item.model])
    return names


def _number_layers(passes: Sequence[Pass]) -> dict[Instance, dict[Instance, int]]:
    """For each model the index of each of its layers.

    Numbers are given per class in the order of the first call, across the models of a trace: the
    first layer of the second model has not the number 0, nor need a trace begin with layer 0.
    """
    layers: dict[Instance, dict[Instance, None]] = {}
    for item in passes:
        mine = layers.setdefault(item.model, {})
        mine |= dict.fromkeys(n.instance for root in item.roots for n in find_layers(root))
    found: dict[Instance, dict[Instance, int]] = {}
    for model, seen in layers.items():
        classes = list(dict.fromkeys(name for name, _ in seen))
        order = sorted(seen, key=lambda layer: (classes.index(layer[0]), layer[1]))
        found[model] = {layer: index for index, layer in enumerate(order)}
    return found


def _renamed(raw: ScopeTree, passes: Sequence[Pass], names: dict[int, str]) -> ScopeTree:
    """The calls that have a label, under it, inside their passes; the others are left out."""
    known: dict[str, int] = {}
    kept = sorted(names)
    spans = [(item, span, roots) for item in passes for span, roots in _stretches(item, raw)]
    pass_of = {root.index: at for at, (_, _, roots) in enumerate(spans) for root in roots}
    place = {i: len(spans) + at for at, i in enumerate(kept)}
    parents = [NO_SCOPE] * len(spans) + [_above(raw, i, place, pass_of) for i in kept]
    texts = [item.phase for item, _, _ in spans] + [names[i] for i in kept]
    tree = ScopeTree(
        names=(),
        name=np.array([known.setdefault(text, len(known)) for text in texts], np.int32),
        track=np.array([s.track for _, s, _ in spans] + raw.track[kept].tolist(), np.int32),
        start_ns=np.array(
            [s.start_ns for _, s, _ in spans] + raw.start_ns[kept].tolist(), np.int64
        ),
        end_ns=np.array([s.end_ns for _, s, _ in spans] + raw.end_ns[kept].tolist(), np.int64),
        parent=np.array(parents, np.int32),
        is_gap=np.zeros(len(texts), bool),
        is_rest=np.concatenate((np.zeros(len(spans), bool), raw.is_rest[kept])),
        crossing=raw.crossing,
    )
    tree = replace(tree, names=tuple(known))
    # Passes come first in these arrays and calls in the order of their nesting, so that the
    # position decides between a parent and a child of the same range.
    order = np.lexsort(
        (np.arange(len(tree)), tree.start_ns - tree.end_ns, tree.start_ns, tree.track)
    )
    return tree.take(order.astype(np.int64))


def _stretches(item: Pass, raw: ScopeTree) -> list[tuple[Span, list[Node]]]:
    """Where a pass lies, and which outermost calls lie there."""
    found = [
        (span, [root for root in item.roots if raw.track[root.index] == span.track])
        for span in item.spans
    ]
    return found + [(span, [root]) for root, span in item.again]


def _above(raw: ScopeTree, index: int, place: dict[int, int], pass_of: dict[int, int]) -> int:
    """Where the nearest named call around a call is, else the pass of its outermost call."""
    while index not in pass_of:
        index = int(raw.parent[index])
        if index in place:
            return place[index]
    return pass_of[index]


def _without_idle_gaps(tree: ScopeTree, trace: Trace) -> ScopeTree:
    """`tree` without those stretches between modules in which nothing was launched or run.

    A name for them would claim work, such as a residual add that a fused norm already did.
    """
    host = trace.host.take(trace.host.category == Category.CPU_OP)
    busy = np.zeros(len(tree), bool)
    for events in (host, trace.launches):
        inside = tree.innermost(events.track, events.start_ns)
        busy[inside[inside != NO_SCOPE]] = True
    return tree.take(np.flatnonzero(busy | ~tree.is_gap))


def _steps(trace: Trace, passes: Sequence[Pass]) -> tuple[Step, ...]:
    """The time of each pass: from its start, or that of its ProfilerStep, up to the next pass.

    So what a pass left to be launched or run after its end is in its ledger, under its reason.
    """
    span = trace.span
    last = span.last_ns + 1 if span is not None else 0
    starts = [item.start_ns for item in passes]
    found: list[Step] = []
    for at, item in enumerate(passes):
        following = passes[at + 1] if at + 1 < len(passes) else None
        end = following.start_ns if following else last
        start, number = starts[at], at
        if item.step is not None:
            before = found[-1].end_ns if found else item.step.start_ns
            shared = any(other.step == item.step for other in passes if other is not item)
            start = min(start, max(item.step.start_ns, before))
            end = max(item.end_ns, min(end, item.step.end_ns))
            number = at if shared else item.step.number
        found.append(Step(number, start, end))
    return tuple(found)
