"""Scopes of the same path become one part; children stay inside their parents."""

from __future__ import annotations

from make.kineto import cpu_op, kernel, label, launch, split

from qwen3_profile.attribution.fold import fold
from qwen3_profile.attribution.parts import Part, Times, merge_parts, sum_times


def tree(part: Part) -> object:
    """(name, calls, host time, own host time, children) all the way down."""
    below = [tree(child) for child in part.parts]
    return (part.name, part.total.calls, part.total.cpu_ns, part.own.cpu_ns, below)


def test_calls_of_one_path_are_summed() -> None:
    (prefill,) = fold(
        split(
            label("prefill", 0, 50), label("layer.0", 10, 20), cpu_op("layer.0.attn", 12, 15),
            label("layer.1", 20, 30),
            label("prefill", 60, 99), label("layer.0", 70, 90), cpu_op("layer.0.attn", 71, 81),
        )
    )  # fmt: skip
    attn = ("layer.0.attn", 2, 13, 13, [])
    # what follows attn up to its layer's end: 15..20 and 81..90
    rest = ("layer.0.residual_attn", 2, 14, 14, [])
    assert tree(prefill) == (
        "prefill", 2, 89, 49, [("layer.0", 2, 30, 3, [attn, rest]), ("layer.1", 1, 10, 10, [])],
    )  # fmt: skip


def test_the_same_name_under_another_parent_is_another_part() -> None:
    roots = fold(
        split(
            label("prefill", 0, 50), label("norm", 10, 20), label("decode", 50, 90),
            label("norm", 60, 65), label("norm", 95, 99),
        )
    )  # fmt: skip
    assert [(root.name, [part.total.cpu_ns for part in root.parts]) for root in roots] == [
        ("prefill", [10]), ("decode", [5]), ("norm", []),
    ]  # fmt: skip


def test_all_sums_of_a_part_with_and_without_its_children() -> None:
    (prefill,) = fold(
        split(
            label("prefill", 0, 100), launch(1, 5, 9), kernel(1, 20, 30),
            label("norm", 40, 60), launch(2, 42, 45), kernel(2, 50, 52), kernel(2, 52, 55),
        )
    )  # fmt: skip
    norm = prefill.find("norm")
    assert norm is not None
    idle = {"starved_ns": 12, "launching_ns": 3, "queued_ns": 5}
    in_norm = Times(1, 20, 5, 2, launch_ns=3, gap_ns=20, queue_ns=5 + 7, **idle)
    assert norm.own == norm.total == in_norm
    idle = {"starved_ns": 5, "launching_ns": 4, "queued_ns": 11}
    assert prefill.own == Times(1, 80, 10, 1, launch_ns=4, gap_ns=20, queue_ns=11, **idle)
    idle = {"starved_ns": 17, "launching_ns": 7, "queued_ns": 16}
    assert prefill.total == Times(1, 100, 15, 3, launch_ns=7, gap_ns=40, queue_ns=23, **idle)


def test_find_and_walk() -> None:
    (prefill,) = fold(
        split(label("prefill", 0, 50), label("layer.0", 5, 20), label("layer.0.attn", 5, 20))
    )
    assert prefill.find("layer.0.attn") is None
    assert [path for path, _ in prefill.walk()] == [
        ("prefill",), ("prefill", "layer.0"), ("prefill", "layer.0", "layer.0.attn"),
    ]  # fmt: skip


def test_times_add() -> None:
    one, two = Times(1, 2, 3, 4, 5, 6, 7), Times(10, 20, 30, 40, 50, 60, 70)
    assert sum_times([one, two]) == Times(11, 22, 33, 44, 55, 66, 77)
    assert sum_times([]) == Times()


def test_passes_are_summed_path_by_path() -> None:
    nested = fold(split(label("decode", 0, 50), label("norm", 0, 20), label("lm_head", 5, 10)))
    apart = fold(split(label("decode", 0, 50), label("norm", 0, 20), label("lm_head", 20, 27)))
    more = fold(split(label("decode", 0, 60), label("norm", 0, 21), label("lm_head", 21, 29)))
    head = ("lm_head", 2, 15, 15, [])
    assert tree(merge_parts([*apart, *more])) == (
        "decode", 2, 110, 54, [("norm", 2, 41, 41, []), head],
    )  # fmt: skip
    inside, behind = ("lm_head", 1, 5, 5, []), ("lm_head", 1, 7, 7, [])
    assert tree(merge_parts([*nested, *apart])) == (
        "decode", 2, 100, 53, [("norm", 2, 40, 35, [inside]), behind],
    )  # fmt: skip
    assert merge_parts(nested) is nested[0]


def test_nothing_folds_to_nothing() -> None:
    assert fold(split()) == ()
