"""The bytes that an operator of torch has to move, by its operands.

Bytes are what a kernel has to move if nothing is moved twice: each tensor operand, that is the
region of its storage that is really addressed, is read once where it is read, and written once
where it is written. It is the traffic of a roofline, and not what caches make of it. Views move
nothing, an expanded tensor only what it is expanded from, a gather the elements that it gathers and
not the table, a write into a KV cache what it writes and not the cache. An operator in place reads
and writes its operand, and what a compiled kernel makes and uses up inside is no operand.

The operands may be fake tensors: nothing but sizes, strides, types and the identity of storages is
looked at, but for an operand that says how much is addressed, as the offsets of a grouped product
do; then the answer for fake ones is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import is_fake
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

# Operators that launch nothing, though their schemas do not say that they only look or alias.
_NO_WORK = frozenset((
    "_fused_sdp_choice", "_reshape_alias", "_unsafe_view", "empty", "empty_like", "empty_permuted",
    "empty_strided", "new_empty", "new_empty_strided", "record_stream", "resize_", "set_",
))  # fmt: skip
# Their operand in place is written without having been read.
_OVERWRITE = frozenset((
    "bernoulli_", "copy_", "exponential_", "fill_", "index_copy_", "index_fill_", "index_put_",
    "_index_put_impl_", "normal_", "random_", "scatter_", "uniform_", "zero_",
))  # fmt: skip
# Of these operands as much is read as comes out.
_GATHERED = {
    "embedding": "weight", "gather": "self", "index": "self", "_unsafe_index": "self",
    "index_select": "self", "take": "self",
}  # fmt: skip
# Of these operands as much is written as the other one has elements.
_SCATTERED = {
    "index_copy_": "source",
    "index_add_": "source",
    "scatter_": "index",
    "scatter_add_": "index",
}
_INDEX_PUT = ("index_put_", "_index_put_impl_")
_GROUPED_MM = "_grouped_mm"

# A region of a storage: whose, from where, its sizes and strides, and the size of an element.
Region = tuple[int, int, tuple[tuple[int, int], ...], int]


def op_bytes(func: OpOverload, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int | None:
    """What the operator reads and writes; 0 for a view, None where that cannot be told.

    Args:
        func: an operator that a backend implements, not one that is made of others.
        args, kwargs: what it was called with.
        out: what it returned.
    """
    name = op_name(func)
    if name in _NO_WORK or func.is_view:
        return 0
    given = _given(func, args, kwargs)
    values = {argument.name: value for argument, value in given}
    operands = list(_tensors(list(values.values())))
    packed = any(isinstance(value, torch.ScriptObject) for value in values.values())
    if packed or not all(map(_is_plain, (*operands, *_tensors(out)))):
        return None
    results = _new_results(func, out, operands)
    try:
        addressed = _addressed(name, values, results)
    except _UnknownError:
        return None
    read: dict[Region, int] = {}
    written = {_region(result): region_bytes(result) for result in results}
    for argument, value in given:
        is_written = argument.alias_info is not None and argument.alias_info.is_write
        for tensor in _tensors(value):
            size = region_bytes(tensor)
            size = min(size, addressed.get(argument.name, size))
            if is_written:
                written[_region(tensor)] = size
            if _is_read(name, argument, values, is_written=is_written):
                read[_region(tensor)] = size
    return sum(read.values()) + sum(written.values())


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether its sizes and strides tell its bytes; those of packed and wrapped weights do not."""
    wrapped = is_traceable_wrapper_subclass(tensor)
    return tensor.layout == torch.strided and not tensor.is_quantized and not wrapped


def op_name(func: OpOverload) -> str:
    """`add_` of `aten::add_.Tensor`."""
    return func._schema.name.rpartition("::")[2]


def region_bytes(tensor: torch.Tensor) -> int:
    """The distinct bytes that a strided tensor addresses: of an expanded one those it repeats."""
    if not tensor.numel():
        return 0
    dims = [(n, s) for n, s in zip(tensor.shape, tensor.stride(), strict=True) if s]
    distinct = math.prod(n for n, _ in dims)
    span = 1 + sum((n - 1) * s for n, s in dims)
    return min(distinct, span) * tensor.itemsize


class _UnknownError(Exception):
    """How much of an operand is addressed depends on values that are not there."""


def _given(func: OpOverload, args: Sequence[Any], kwargs: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Each argument of the schema that was given, with its value."""
    found = []
    for place, argument in enumerate(func._schema.arguments):
        if place < len(args):
            found.append((argument, args[place]))
        elif argument.name in kwargs:
            found.append((argument, kwargs[argument.name]))
    return found


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)


def _new_results(
    func: OpOverload, out: Any, operands: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """What is returned and is no operand, nor a view of one that the operator just hands on."""
    returns = func._schema.returns
    values = out if isinstance(out, list | tuple) and len(returns) > 1 else [out] * len(returns)
    known = {_storage(each) for each in operands}
    return [
        tensor
        for each, value in zip(returns, values, strict=False)
        if each.alias_info is None
        for tensor in _tensors(value)
        if _storage(tensor) not in known
    ]


def _is_read(name: str, argument: Any, given: dict[str, Any], *, is_written: bool) -> bool:
    if is_written:
        adds_up = given.get("accumulate") or given.get("reduce")
        return not (argument.is_out or (name in _OVERWRITE and not adds_up))
    # What is only made like another looks at its shape.
    return not name.endswith("_like") and not name.startswith("new_")


def _addressed(name: str, given: dict[str, Any], results: Sequence[torch.Tensor]) -> dict[str, int]:
    """The bytes of each operand of which less is addressed than there is.

    Raises:
        _UnknownError: it depends on the values of fake tensors.
    """
    if name in _GATHERED:
        (made,) = results or [given["out"]]
        return {_GATHERED[name]: made.numel() * made.itemsize}
    if name in _SCATTERED and isinstance(given.get(_SCATTERED[name]), torch.Tensor):
        return {"self": given[_SCATTERED[name]].numel() * given["self"].itemsize}
    if name in _INDEX_PUT:
        return {"self": _put(given["self"], given["indices"]) * given["self"].itemsize}
    if name == _GROUPED_MM and given.get("offs") is not None:
        return {"mat2": _groups(given["mat2"], given["offs"])}
    return {}


def _put(into: torch.Tensor, indices: Sequence[torch.Tensor | None]) -> int:
    """How many elements an index names."""
    used = [each for each in indices if each is not None]
    if any(each.dtype in (torch.bool, torch.uint8) for each in used):
        raise _UnknownError
    shape = torch.broadcast_shapes(*(each.shape for each in used))  # type: ignore[no-untyped-call]
    places = int(math.prod(shape))
    kept = [n for at, n in enumerate(into.shape) if at >= len(indices) or indices[at] is None]
    return places * int(math.prod(kept))


def _groups(weights: torch.Tensor, ends: torch.Tensor) -> int:
    """The bytes of the weights of those groups that have any rows.

    Args:
        weights: [groups, in, out].
        ends: of each group the row behind its last one, [groups].
    """
    if weights.dim() != 3:
        return region_bytes(weights)
    if is_fake(ends):
        raise _UnknownError
    with torch.utils._python_dispatch._disable_current_modes():
        rows = ends.diff(prepend=ends.new_zeros(1))
        return region_bytes(weights) // len(ends) * int((rows > 0).sum())


def _region(tensor: torch.Tensor) -> Region:
    dims = tuple((n, s) for n, s in zip(tensor.shape, tensor.stride(), strict=True) if s and n > 1)
    return (_storage(tensor), int(tensor.storage_offset()), dims, tensor.itemsize)


def _storage(tensor: torch.Tensor) -> int:
    identity: int = tensor.untyped_storage()._cdata
    return identity
