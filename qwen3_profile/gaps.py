"""Labels in the order of a pass in, the names of what lies directly in a container of them out.

A trace has its gaps named when it is read (`scopes`); what was never in a trace, the nodes of a
compiled graph and the operators of a counted pass, has them named here, by the same table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qwen3_profile import labels

# In place of a layer's index, where one graph serves several layers: the label round it says which.
ANY_LAYER = "layer.*"


def kind_of(label: str) -> str:
    """As `Label.kind`, for labels of any layer too; the forward pass itself has the label ""."""
    if not label:
        return "phase"
    parsed = labels.parse(label.replace(ANY_LAYER, "layer.0", 1))
    return parsed.kind if parsed is not None else "leaf"


def is_container(label: str) -> bool:
    """Whether other labels may lie in it."""
    return kind_of(label) != "leaf"


def gap_label(container: str, inner: Sequence[str | None], index: int) -> str:
    """The name of what lies in `container` between its children before and after `index`.

    Args:
        inner: of all that ran, in order, the label inside a container; None where there is none.

    Returns:
        The container's own label where the gap has no name.
    """
    before = _first_child(container, (inner[i] for i in range(index - 1, -1, -1)))
    after = _first_child(container, (inner[i] for i in range(index + 1, len(inner))))
    name = labels.gap_name(kind_of(container), before, after)
    if name is None:
        return container
    return f"{container}.{name}" if container else name


def _first_child(container: str, found: Iterator[str | None]) -> str | None:
    """The child of `container` that the first label inside it lies in, by its name."""
    prefix = f"{container}." if container else ""
    for label in found:
        if label is not None and label.startswith(prefix):
            return label[len(prefix) :].partition(".")[0]
    return None
