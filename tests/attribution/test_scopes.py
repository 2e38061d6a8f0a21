"""Host events in, the tree of labels out: nesting, cutting, gaps and steps, on a few ranges."""

from __future__ import annotations

import numpy as np
import pytest
from make.kineto import cpu_op, event, kernel, label, launch, read, step, us

from qwen3_profile.attribution.build_scopes import build_scopes, select_labels
from qwen3_profile.attribution.scopes import (
    NO_CROSSING,
    NO_SCOPE,
    Crossing,
    NewScope,
    ScopeTree,
    Step,
    find_steps,
    no_scopes,
)
from qwen3_profile.trace import Trace

Rows = list[tuple[str, int, int, str]]


def tree_of(*events: str, name_gaps: bool = False) -> tuple[Trace, ScopeTree]:
    trace = read(*events)
    return trace, build_scopes(trace, select_labels(trace), name_gaps=name_gaps)


def rows(tree: ScopeTree) -> Rows:
    """(name, start, end, parent's name) of each scope, in the order of the tree."""
    names = [tree.names[i] for i in tree.name.tolist()]
    parents = ["" if p == NO_SCOPE else names[p] for p in tree.parent.tolist()]
    return list(zip(names, tree.start_ns.tolist(), tree.end_ns.tolist(), parents, strict=True))


# --- nesting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [label("layer.0", 10, 50), label("prefill", 0, 90), cpu_op("layer.0.attn", 20, 40)],
            [
                ("prefill", 0, 90, ""),
                ("layer.0", 10, 50, "prefill"),
                ("layer.0.attn", 20, 40, "layer.0"),
            ],
            id="three levels, in any order and either category",
        ),
        pytest.param(
            [label("prefill", 0, 90), label("norm", 10, 20), label("lm_head", 20, 30)],
            [
                ("prefill", 0, 90, ""),
                ("norm", 10, 20, "prefill"),
                ("lm_head", 20, 30, "prefill"),
            ],
            id="one begins as the other ends: neighbours",
        ),
        pytest.param(
            [label("prefill", 0, 50), label("decode", 50, 90)],
            [("prefill", 0, 50, ""), ("decode", 50, 90, "")],
            id="two roots",
        ),
        pytest.param(
            [label("prefill", 0, 90), label("norm", 10, 20, thread=2)],
            [("prefill", 0, 90, ""), ("norm", 10, 20, "")],
            id="another thread has a tree of its own",
        ),
        pytest.param(
            [label("layer.0", 0, 50), label("prefill", 0, 90)],
            [("prefill", 0, 90, ""), ("layer.0", 0, 50, "prefill")],
            id="same start: the longer one is outside",
        ),
        pytest.param(
            [label("layer.0", 40, 90), label("prefill", 0, 90)],
            [("prefill", 0, 90, ""), ("layer.0", 40, 90, "prefill")],
            id="same end: still inside",
        ),
        pytest.param(
            [
                cpu_op("layer.0.attn.q_proj", 5, 9),
                label("layer.0.attn", 5, 9),
                label("layer.0", 5, 9),
            ],
            [
                ("layer.0", 5, 9, ""),
                ("layer.0.attn", 5, 9, "layer.0"),
                ("layer.0.attn.q_proj", 5, 9, "layer.0.attn"),
            ],
            id="same start and end: the grammar says which is outside",
        ),
        pytest.param(
            [label("prefill", 0, 90), label("norm", 30, 30), label("lm_head", 30, 40)],
            [
                ("prefill", 0, 90, ""),
                ("lm_head", 30, 40, "prefill"),
                ("norm", 30, 30, "lm_head"),
            ],
            id="no length: inside what is open",
        ),
        pytest.param(
            [label("prefill", 0, 90), label("norm", 90, 90)],
            [("prefill", 0, 90, ""), ("norm", 90, 90, "")],
            id="no length at the end: outside",
        ),
        pytest.param([], [], id="nothing"),
    ],
)
def test_labels_nest_by_time_and_thread(events: list[str], expected: Rows) -> None:
    _, tree = tree_of(*events)
    assert rows(tree) == expected
    assert tree.crossing == Crossing(0, 0, "")


def test_only_labels_are_selected() -> None:
    trace = read(
        label("prefill", 0, 90),
        cpu_op("layer.3.ffn", 1, 5),
        cpu_op("aten::mm", 1, 5),
        label("ProfilerStep#1", 0, 90),
        event("python_function", "nn.Module: norm", 1, 1, us(0), us(9)),
    )
    names = [trace.names[i] for i in trace.host.name[select_labels(trace)].tolist()]
    assert sorted(names) == ["layer.3.ffn", "prefill"]


@pytest.mark.parametrize(
    "child_end",
    [
        pytest.param(5000, id="ends with its parent"),
        pytest.param(6000, id="later by one tick of an old trace: cut in silence"),
    ],
)
def test_what_ends_with_its_parent(child_end: int) -> None:
    _, tree = tree_of(label("layer.0", 1000, 5000), label("layer.0.attn", 2000, child_end))
    assert rows(tree) == [("layer.0", 1000, 5000, ""), ("layer.0.attn", 2000, 5000, "layer.0")]
    assert tree.crossing == NO_CROSSING


def test_what_outlives_its_parent_goes_on_and_is_counted() -> None:
    _, tree = tree_of(label("layer.0", 1000, 5000), label("layer.0.attn", 2000, 6001))
    assert rows(tree) == [
        ("layer.0", 1000, 5000, ""),
        ("layer.0.attn", 2000, 5000, "layer.0"),
        ("layer.0.attn", 5000, 6001, ""),
    ]
    assert tree.crossing == Crossing(1, 1001, "layer.0.attn")


def test_what_lies_in_it_goes_on_as_well() -> None:
    _, tree = tree_of(
        label("prefill", 0, 30000),
        label("layer.0", 10000, 90000),
        label("layer.0.attn", 20000, 80000),
        label("norm", 82000, 89000),
    )
    assert rows(tree) == [
        ("prefill", 0, 30000, ""),
        ("layer.0", 10000, 30000, "prefill"),
        ("layer.0.attn", 20000, 30000, "layer.0"),
        ("layer.0", 30000, 90000, ""),
        ("layer.0.attn", 30000, 80000, "layer.0"),
        ("norm", 82000, 89000, "layer.0"),
    ]
    assert tree.crossing == Crossing(2, 60000 + 50000, "layer.0")


# --- who is open --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time_ns", "expected"),
    [
        pytest.param(9, "", id="before all"),
        pytest.param(10, "prefill", id="a scope is open at its start"),
        pytest.param(20, "layer.0.attn", id="two open at once: the inner one"),
        pytest.param(29, "layer.0.attn", id="inside"),
        pytest.param(30, "layer.0", id="and is not at its end"),
        pytest.param(40, "layer.0.ffn", id="one ends as the next begins"),
        pytest.param(50, "prefill", id="two end at once: the outer one's parent"),
        pytest.param(60, "prefill", id="one of no length is never open"),
        pytest.param(90, "", id="at the end of all"),
    ],
)
def test_the_innermost_open_scope(time_ns: int, expected: str) -> None:
    _, tree = tree_of(
        label("prefill", 10, 90),
        label("layer.0", 20, 50),
        label("layer.0.attn", 20, 30),
        label("layer.0.input_layernorm", 35, 40),
        label("layer.0.ffn", 40, 50),
        label("norm", 60, 60),
    )
    found = tree.innermost(np.array([0], np.int32), np.array([time_ns], np.int64))
    names = ["" if i == NO_SCOPE else tree.names[tree.name[i]] for i in found.tolist()]
    assert names == [expected]


def test_the_innermost_scope_is_of_the_thread_asked() -> None:
    trace, tree = tree_of(label("prefill", 0, 90, thread=5), label("norm", 0, 90, thread=6))
    tids = {track.tid: number for number, track in enumerate(trace.tracks)}
    asked = np.array([tids["6"], tids["5"], 99], np.int32)
    found = tree.innermost(asked, np.array([50, 50, 50], np.int64))
    assert [tree.names[tree.name[i]] for i in found[:2]] == ["norm", "prefill"]
    assert found[2] == NO_SCOPE


# --- gaps ---------------------------------------------------------------------------------------


def gaps(*events: str) -> Rows:
    _, tree = tree_of(*events, name_gaps=True)
    return [row for row, is_gap in zip(rows(tree), tree.is_gap.tolist(), strict=True) if is_gap]


ATTN = "layer.0.attn"
FFN = "layer.0.ffn"


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [
                label("layer.0", 0, 90),
                label(ATTN, 10, 40),
                label("layer.0.post_attention_layernorm", 45, 50),
                label(FFN, 50, 80),
            ],
            [
                ("layer.0.residual_attn", 40, 45, "layer.0"),
                ("layer.0.residual_ffn", 80, 90, "layer.0"),
            ],
            id="the two additions of a layer, the second up to its end",
        ),
        pytest.param(
            [
                label(ATTN, 0, 90),
                cpu_op(f"{ATTN}.attn_forward", 5, 50),
                cpu_op(f"{ATTN}.o_proj", 60, 80),
            ],
            [(f"{ATTN}.merge_heads", 50, 60, ATTN)],
            id="between attention and o_proj",
        ),
        pytest.param(
            [
                label(FFN, 0, 90),
                cpu_op(f"{FFN}.up_proj", 5, 50),
                cpu_op(f"{FFN}.down_proj", 60, 80),
            ],
            [(f"{FFN}.act_mul", 50, 60, FFN)],
            id="between up_proj and down_proj",
        ),
        pytest.param(
            [label("prefill", 0, 90), label("norm", 10, 20), label("lm_head", 30, 90)],
            [("select_last", 20, 30, "prefill")],
            id="in the forward pass a gap has no prefix",
        ),
        pytest.param(
            [label("layer.0", 0, 90), label(ATTN, 0, 40), label(FFN, 40, 90)],
            [],
            id="nothing between them: no gap",
        ),
        pytest.param(
            [
                label("layer.0", 0, 90),
                label("layer.0.input_layernorm", 30, 40),
                label(ATTN, 50, 90),
            ],
            [],
            id="before the first label, and after one that names nothing: no gap",
        ),
        pytest.param(
            [label("layer.0", 0, 90), label(ATTN, 10, 40), label(FFN, 50, 90, thread=2)],
            [("layer.0.residual_attn", 40, 90, "layer.0")],
            id="a neighbour on another thread is none",
        ),
    ],
)
def test_gaps_are_named_by_their_neighbours(events: list[str], expected: Rows) -> None:
    assert gaps(*events) == expected


def test_gaps_stand_in_the_tree_in_order() -> None:
    _, tree = tree_of(
        label("prefill", 0, 99),
        label("layer.0", 0, 90),
        label(ATTN, 10, 40),
        label(FFN, 50, 80),
        name_gaps=True,
    )
    assert [row[0] for row in rows(tree)] == [
        "prefill", "layer.0", ATTN, "layer.0.residual_attn", FFN, "layer.0.residual_ffn",
    ]  # fmt: skip
    assert tree.is_gap.tolist() == [False, False, False, True, False, True]


def test_a_gap_as_long_as_its_container_stays_inside_it() -> None:
    _, tree = tree_of(label("layer.0", 5, 90), label(ATTN, 5, 5), name_gaps=True)
    assert ("layer.0.residual_attn", 5, 90, "layer.0") in rows(tree)
    assert all(parent < child for child, parent in enumerate(tree.parent.tolist()))


# --- steps --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [step(8, 50, 90), step(7, 0, 50), label("prefill", 5, 45)],
            [Step(7, 0, 50), Step(8, 50, 90)],
            id="ProfilerStep ranges, in time order under their own numbers",
        ),
        pytest.param(
            [cpu_op("ProfilerStep#3", 0, 50)], [Step(3, 0, 50)], id="as an operator, as in 2021"
        ),
        pytest.param(
            [step(3, 0, 50), cpu_op("ProfilerStep#3", 0, 50)], [Step(3, 0, 50)], id="written twice"
        ),
        pytest.param(
            [label("decode", 60, 90), label("prefill", 0, 50)],
            [Step(0, 0, 50), Step(1, 60, 90)],
            id="none: the forward passes, counted",
        ),
        pytest.param(
            [cpu_op("aten::mm", 10, 20), launch(1, 12, 15), kernel(1, 30, 50)],
            [Step(0, 10, 51)],
            id="no forward pass either: all there is",
        ),
        pytest.param([kernel(1, 30, 50)], [Step(0, 30, 51)], id="device events alone"),
        pytest.param([], [], id="an empty trace"),
    ],
)
def test_steps(events: list[str], expected: list[Step]) -> None:
    assert find_steps(read(*events)) == tuple(expected)


# --- up and down the tree, and more scopes ------------------------------------------------------


def small_tree() -> ScopeTree:
    _, tree = tree_of(
        label("prefill", 0, 90), label("layer.0", 10, 50), label("layer.0.attn", 20, 40),
        label("norm", 60, 70), label("decode", 100, 190),
    )  # fmt: skip
    return tree


def test_what_lies_around_and_below_a_scope() -> None:
    tree = small_tree()
    assert [tree.path(scope) for scope in range(len(tree))] == [
        ("prefill",), ("prefill", "layer.0"), ("prefill", "layer.0", "layer.0.attn"),
        ("prefill", "norm"), ("decode",),
    ]  # fmt: skip
    assert (tree.around(2), tree.around(NO_SCOPE), tree.path(NO_SCOPE)) == ([0, 1, 2], [], ())
    assert tree.depth().tolist() == [0, 1, 2, 1, 0]
    for chosen, expected in (([0], [1, 2, 3]), ([1, 4], [2]), ([0, 1], [1, 2, 3]), ([2], [])):
        below = tree.below(np.isin(np.arange(len(tree)), chosen))
        assert np.flatnonzero(below).tolist() == expected


def test_a_tree_of_thousands_of_levels() -> None:
    count = 3000
    tree = no_scopes().append([NewScope("norm", 0, 0, 9, at - 1) for at in range(count)])
    assert tree.depth().tolist() == list(range(count))
    assert tree.below(np.arange(count) == 1).tolist() == [False] * 2 + [True] * (count - 2)
    assert len(tree.path(count - 1)) == count


def test_nothing_lies_in_an_empty_tree() -> None:
    tree = no_scopes()
    assert (len(tree.depth()), len(tree.below(np.zeros(0, bool))), len(tree.append([]))) == (
        0,
        0,
        0,
    )


NEW = (NewScope("qk_scale", 0, 22, 30, 2), NewScope("rope", 0, 25, 28, 5))


def test_scopes_are_appended_behind_all_others() -> None:
    assert rows(small_tree().append(NEW)) == [
        *rows(small_tree()), ("qk_scale", 22, 30, "layer.0.attn"), ("rope", 25, 28, "qk_scale"),
    ]  # fmt: skip


def test_scopes_are_inserted_in_the_order_of_time() -> None:
    tree, place = small_tree().insert(NEW)
    assert place.tolist() == [3, 4]
    assert [tree.path(scope)[-1] for scope in range(len(tree))] == [
        "prefill", "layer.0", "layer.0.attn", "qk_scale", "rope", "norm", "decode",
    ]  # fmt: skip
    assert tree.path(4) == ("prefill", "layer.0", "layer.0.attn", "qk_scale", "rope")
    assert tree.innermost(np.array([0], np.int32), np.array([26], np.int64)).tolist() == [4]
