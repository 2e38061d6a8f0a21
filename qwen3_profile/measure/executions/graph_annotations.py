"""The label of each node of a graph that is captured, where torch can tell.

From 2.13 on torch can mark the nodes that a stretch of code captures, and Kineto writes the number
of a node beside its kernel, `graph node id`. Both need CUDA 13.1, in the driver and in the package
cuda-bindings; without them there are no labels, in silence. Copies and kernels are marked, fills
are not, and what lies between two labels has that of their container.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

from qwen3_profile.measure import ranges

_TEXT = "str"  # the key under which torch keeps an annotation that is a text


@contextmanager
def annotated_capture(graph: Any) -> Iterator[dict[int, str]]:
    """Captures the block into `graph`; at its end the dict has node id -> label, or nothing.

    Args:
        graph: a `torch.cuda.CUDAGraph`. The model in the block is labelled.
    """
    annotations = _annotations()
    if annotations is None:
        with plain_capture(graph) as nothing:
            yield nothing
        return
    found: dict[int, str] = {}
    annotations.clear_kernel_annotations()
    try:
        with (
            ranges.redirect_ranges(annotations.mark_kernels),
            torch.cuda.graph(graph, enable_annotations=True),  # type: ignore[call-arg,unused-ignore]
        ):
            yield found
        for node, told in annotations.get_kernel_annotations().items():
            # Of labels inside each other torch keeps the one that ends first, the innermost.
            if told and isinstance(told[0], dict) and isinstance(told[0].get(_TEXT), str):
                found[int(node)] = told[0][_TEXT]
    finally:
        annotations.disable_annotations()
        annotations.clear_kernel_annotations()


@contextmanager
def plain_capture(graph: Any) -> Iterator[dict[int, str]]:
    """Captures the block into `graph`, and tells of no labels."""
    with torch.cuda.graph(graph):
        yield {}


def _annotations() -> ModuleType | None:
    """torch's own module, private until it is public; None where it is another, or missing."""
    try:
        found = importlib.import_module("torch.cuda._graph_annotations")
    except ImportError:
        return None
    wanted = (
        "clear_kernel_annotations", "disable_annotations", "get_kernel_annotations",
        "mark_kernels", "remap_to_exec_graph",
    )  # fmt: skip
    takes = "enable_annotations" in inspect.signature(torch.cuda.graph.__init__).parameters
    return found if takes and all(hasattr(found, name) for name in wanted) else None
