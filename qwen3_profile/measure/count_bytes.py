"""Counts the bytes that the operators of a labelled forward pass move under each label.

The pass runs under a dispatch mode of torch, which sees every operator on its way to the device;
nobody times it. An operator that is made of others is taken apart into these, as torch does it.

What runs in a backward goes to the label of its forward: autograd numbers the nodes that it makes,
and an operator of the forward reaches the device right after its node was made.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from qwen3_profile.labels import BACKWARD, gap_label, is_container
from qwen3_profile.measure import ranges
from qwen3_profile.measure.op_bytes import op_bytes
from qwen3_profile.run_folder.bytes_moved import Moved, Traffic, gather

# The number of nodes that add up a gradient, as no operator made them.
_ADDS_UP = 2**64 - 1
# Of packed weights all are read, but for zero points that are none.
_READ_AT_LEAST = 0.5
_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


def count_pass(
    forward: Callable[[], object], packed: Mapping[str, int | None] = MappingProxyType({})
) -> Traffic:
    """What `forward`, a pass of a labelled model, moves under each of its labels.

    Args:
        packed: the labels of Linears of packed weights, and what these take.
    """
    counting = _Counting()
    with ranges.redirect_ranges(counting.opened), counting:
        forward()
    return _without_unseen(counting.traffic(), packed)


def _without_unseen(traffic: Traffic, packed: Mapping[str, int | None]) -> Traffic:
    """Of Linears whose kernels went past torch's dispatcher nothing is known, not little."""
    found, backward = dict(traffic.labels), dict(traffic.backward)
    for label, stored in packed.items():
        seen = found.get(label, Moved())
        if stored is None or (seen.bytes or 0) < _READ_AT_LEAST * stored:
            found[label] = Moved(seen.operations, None)
            if label in backward:
                backward[label] = Moved(backward[label].operations, None)
    return Traffic(found, backward)


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What ran so far, in order: the labels that were opened, and operators under the innermost."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._open = [""]
        # How many operators are being taken apart, one inside the other.
        self._in_parts = 0
        self._ran: list[tuple[str, Moved | None]] = []
        # How many nodes autograd had made when each of these had run.
        self._nodes: list[int] = []
        # The number of the node in which each operator of a backward ran.
        self._backward: list[tuple[int, Moved]] = []

    @contextmanager
    def opened(self, label: str) -> Iterator[None]:
        """The range of a label."""
        self._open.append(label)
        self._note(None)
        try:
            yield
        finally:
            self._open.pop()

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if _is_made_of_others(func, args):
            return self._of_its_parts(func, args, kwargs)
        out = func(*args, **kwargs)
        if func.is_view and self._in_parts:
            _keep_gradients(out, args[0])
        moved = op_bytes(func, args, kwargs, out)
        # A view moves nothing, and has a node.
        ran = Moved(1, moved) if moved != 0 else Moved()
        if BACKWARD in self._open:
            self._backward.append((_node_number(), ran))
        else:
            self._note(ran)
        return out

    def _of_its_parts(self, func: OpOverload, args: Any, kwargs: dict[str, Any]) -> Any:
        self._in_parts += 1
        try:
            with self:
                return func._op_dk(_COMPOSITE, *args, **kwargs)
        finally:
            self._in_parts -= 1

    def _note(self, moved: Moved | None) -> None:
        self._ran.append((self._open[-1], moved))
        self._nodes.append(torch.autograd._get_sequence_nr())  # type: ignore[attr-defined]

    def traffic(self) -> Traffic:
        """The sums by label; what lies between labels has the name of its gap."""
        # Some parts are made of others, as with adapters.
        holders = {label.rpartition(".")[0] for label, moved in self._ran if moved is None}
        inner = [
            label if moved is None or not (is_container(label) or label in holders) else None
            for label, moved in self._ran
        ]

        def label_at(at: int) -> str:
            label = self._ran[at][0]
            return label if inner[at] is not None else gap_label(label, inner, at)

        forward = gather(
            (label_at(at), moved)
            for at, (_, moved) in enumerate(self._ran)
            if moved is not None and moved.operations
        )
        return Traffic(forward, gather(self._backward_of(label_at)))

    def _backward_of(self, label_at: Callable[[int], str]) -> Iterator[tuple[str, Moved]]:
        """The label of each operator of a backward; of one that adds up a gradient, which has no
        number, that of the one before it.
        """
        label, first = "", self._nodes[0] if self._nodes else 0
        for number, moved in self._backward:
            at = bisect_right(self._nodes, number)
            if number != _ADDS_UP:
                label = label_at(at) if first <= number and at < len(self._nodes) else ""
            if moved.operations:
                yield label, moved


def _keep_gradients(view: Any, of: Any) -> None:
    """Lets a view of a weight want gradients as the weight does, which it forgets where an operator
    is taken apart.

    By that torch chooses, in inference too, whether a product of a batch of rows that do not lie
    side by side becomes one of matrices, or one for each sequence, with a copy of the weights on a
    CPU: 60 times as long.
    """
    if not torch.is_grad_enabled() and isinstance(view, torch.Tensor) and of.requires_grad:
        view.requires_grad_()


def _node_number() -> int:
    """The number of the node of autograd that runs; -1 where none does."""
    node = torch._C._current_autograd_node()
    return -1 if node is None else int(node._sequence_nr())


def _is_made_of_others(func: OpOverload, args: tuple[Any, ...]) -> bool:
    """Whether the device has no code of its own for it."""
    name: str = func.name()  # type: ignore[no-untyped-call]
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    if not has_kernel(name, "CompositeImplicitAutograd"):
        return False
    device = next((each.device.type for each in args if isinstance(each, torch.Tensor)), "cpu")
    return not has_kernel(name, device.upper())
