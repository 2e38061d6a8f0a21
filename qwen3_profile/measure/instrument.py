"""Labels a decoder of transformers as `labels.py` says, and undoes it on exit.

Modules are labelled by wrapping `forward` on the instance: hooks would leave their labels open
when a forward raises. What is no module (attention functions, rope, cache updates, mask makers)
is wrapped where the model code looks it up, and is labelled only inside a labelled model, so
that other models of the process stay as they are. Nothing of transformers is edited.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import nn
from transformers.cache_utils import Cache

from qwen3_profile.errors import ModelError
from qwen3_profile.label_parts import PartSpec, blocks, packages, parts
from qwen3_profile.labels import layer_label
from qwen3_profile.measure.implementations import CalledFunctions, compiled_functions
from qwen3_profile.measure.model.quantised import quantised_kind, stored_bytes
from qwen3_profile.measure.model.structure import (
    find_decoder,
    is_gated,
    is_moe,
    owner_kind,
    parts_of,
    pieces_of,
    unnamed,
    unwrapped,
)
from qwen3_profile.measure.patching import Function, Patches
from qwen3_profile.measure.ranges import PROFILER_RANGES, LabelMaker, phase, step

__all__ = ["Instrumentation", "labelled", "phase", "step"]
# Gated attention multiplies by its gate between the core and the last projection, where no module
# and no function of its own is called.
_GATE = "output_gate"
_NO_FUNCTIONS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Instrumentation:
    """What `labelled` found in a model.

    num_layers: decoder layers, labelled `layer.0` onwards.
    moe_layers: the indices of those with a router and experts.
    hooked: the parts that are labelled, such as "embed_tokens" or "attn.rope".
    expected: the labels that each forward pass writes at least once, without its phase; not
        `causal_mask`, which the model may build without a mask maker that we know.
    missing: one line for each part that could not be, with the reason; empty as a rule.
    replaced: one line for each part whose code is neither torch's nor transformers': kernels
        from the hub, quantised layers, offloading.
    called: of parts that transformers takes from other packages, whose code was called.
    quantised: label -> what its weights take in bytes, of Linears of packed weights; None where
        they do not tell.
    """

    num_layers: int
    moe_layers: frozenset[int]
    hooked: tuple[str, ...]
    expected: tuple[str, ...]
    missing: tuple[str, ...]
    replaced: tuple[str, ...]
    called: CalledFunctions = field(default_factory=CalledFunctions)
    quantised: Mapping[str, int | None] = field(default_factory=dict)


@contextmanager
def labelled(
    model: nn.Module,
    *,
    passes: bool = False,
    inside_layers: bool = True,
    labels: LabelMaker = PROFILER_RANGES,
) -> Iterator[Instrumentation]:
    """Labels every forward pass of `model` in this block that a profiler records.

    Enter it last: after the attention implementation is chosen, kernels are installed and the
    model is spread over devices.

    Args:
        model: a causal language model of transformers whose modules are named as Qwen3's are
            (Llama, Qwen2, Mistral, Gemma, Phi3, ...), or its base model. Parts that it lacks are
            not missed.
        passes: also label each call of the model as a whole, by what it is called with; else
            `phase` is to be round it.
        inside_layers: label the parts of layers too; else the layers as a whole, which are compiled
            by themselves: a label inside would be one more thing to compile.
        labels: what makes them: ranges of the profiler, or readings of the clock.

    Raises:
        ModelError: it has no decoder layers, or one module in two places.
        RunError: it is labelled already.
    """
    with ExitStack() as undo:
        yield _Installer(undo, inside_layers, labels).install(model, passes)


class _Installer:
    """One `labelled` block: what it has wrapped, and what it says of the model."""

    def __init__(self, undo: ExitStack, inside_layers: bool, maker: LabelMaker) -> None:
        self._maker = maker
        self._patches = Patches(undo)
        self._inside_layers = inside_layers
        self._labels: dict[nn.Module, str] = {}
        # Of adapters that were merged, or are switched off.
        self._idle: dict[nn.Module, str] = {}
        self._expected: list[str] = []
        self._hooked: dict[str, None] = {}
        self._missing: Counter[str] = Counter()
        self._replaced: dict[str, None] = {}
        self._called = CalledFunctions()

    def install(self, model: nn.Module, passes: bool) -> Instrumentation:
        found = find_decoder(model)
        decoder, layers = found.stack, found.layers
        if not self._inside_layers:
            self._called = CalledFunctions(compiled_functions(layers))
        whole = unwrapped(model, decoder)
        if whole is not decoder:
            self._parts(whole, "model")
            self._missing.update(unnamed(whole, "model", decoder))
        if decoder is not model and passes:
            inside = self._maker.inside_phase(model.forward, self._patches)
            self._patches.put(model, "forward", inside)
        self._parts(decoder, "decoder")
        self._phase_functions(decoder, passes and decoder is model)
        moe_layers = [index for index, layer in enumerate(layers) if self._layer(index, layer)]
        if self._inside_layers:
            self._layer_functions(layers)
        self._missing.update(unnamed(decoder, "decoder"))
        return Instrumentation(
            num_layers=len(layers),
            moe_layers=frozenset(moe_layers),
            hooked=tuple(self._hooked),
            expected=tuple(dict.fromkeys((*self._labels.values(), *self._expected))),
            missing=tuple(f"{why} ({n} times)" for why, n in self._missing.items()),
            replaced=tuple(self._replaced),
            called=self._called,
            quantised={
                label: stored_bytes(module)
                for module, label in self._labels.items()
                if quantised_kind(module)
            },
        )

    def _layer(self, index: int, layer: nn.Module) -> bool:
        """Labels one decoder layer; whether it is a mixture of experts."""
        if not self._inside_layers:
            return self._compiled_layer(index, layer)
        self._module(layer, layer_label(index), "layer")
        found = _blocks(layer)
        for each in parts_of(layer, "layer"):
            for module in each.modules if each.part not in found else ():
                self._module(module, layer_label(index, each.part), each.part)
        self._missing.update(unnamed(layer, "layer"))
        has = {blocks()[name].family for name in found}
        missed = (part for part in blocks().values() if part.required and part.family not in has)
        self._missing.update(f"{part.name}: no such module" for part in missed)
        for name, module in found.items():
            self._block(index, name, module)
        return _has_experts(found)

    def _compiled_layer(self, index: int, layer: nn.Module) -> bool:
        label = self._labels[layer] = layer_label(index)
        call: Function = vars(layer)["_compiled_call_impl"]
        self._patches.put(
            layer, "_compiled_call_impl", self._maker.inside_range(call, label, self._patches)
        )
        return _has_experts(_blocks(layer))

    def _block(self, index: int, block: str, module: nn.Module) -> None:
        names = [part.name for part in parts(block) if part.is_function]
        names += [_GATE] if block == "attn" and is_gated(module) else []
        labels = {name: layer_label(index, block, name) for name in names}
        self._module(module, layer_label(index, block), block, labels)
        self._parts(module, owner_kind(block, module), index, block)

    def _parts(
        self, owner: nn.Module, kind: str, layer: int | None = None, block: str | None = None
    ) -> None:
        """Labels the parts of `owner` that are modules; tells of those without a name."""
        for found in parts_of(owner, kind):
            label = found.part if layer is None else layer_label(layer, block, found.part)
            part = found.part if block is None else f"{block}.{found.part}"
            for module in found.modules:
                self._module(module, label, part)
        if block is not None:
            self._missing.update(unnamed(owner, kind))

    def _module(
        self,
        module: nn.Module,
        label: str,
        part: str,
        functions: Mapping[str, str] = _NO_FUNCTIONS,
    ) -> None:
        """Labels `module`, and with the labels of `functions` the functions called inside it."""
        other = self._labels.setdefault(module, label)
        if other != label:
            raise ModelError(label, f"is the same module as {other}", "give each its own")
        forward: Function = module.forward
        if part in packages():
            forward = self._called.noting(forward, part)
        self._note(part, forward)
        if functions:
            forward = self._maker.inside_scope(forward, functions, self._patches)
        self._put(module, forward, label)
        for piece in pieces_of(module):
            if piece.runs:
                self._module(piece.module, f"{label}.{piece.name}", f"{part}.{piece.name}")
            elif self._idle.setdefault(piece.module, label) == label:
                self._put(piece.module, piece.module.forward, f"{label}.{piece.name}")

    def _put(self, module: nn.Module, forward: Function, label: str) -> None:
        self._patches.put(
            module, "forward", self._maker.inside_range(forward, label, self._patches)
        )

    def _phase_functions(self, decoder: nn.Module, is_pass: bool) -> None:
        functions = [part for part in parts("phase") if part.is_function]
        labels = {part.name: part.name for part in functions}
        forward = self._maker.inside_scope(decoder.forward, labels, self._patches)
        if is_pass:
            forward = self._maker.inside_phase(forward, self._patches)
        self._patches.put(decoder, "forward", forward)
        for part in functions:
            found = self._globals(decoder, part)
            method = getattr(decoder, "_update_causal_mask", None)  # transformers 4.51 and 4.52
            if part.name == "causal_mask" and method is not None:
                self._note(part.path, method)
                self._function(vars(decoder), "_update_causal_mask", method, part)
            elif part.name == "causal_mask" and not found:
                self._missing["causal_mask: no mask maker that we know"] += 1

    def _layer_functions(self, layers: nn.ModuleList) -> None:
        found: dict[tuple[str, type], tuple[str, ...]] = {}
        for index, layer in enumerate(layers):
            for block, module in _blocks(layer).items():
                key = (block, type(module))
                if key not in found:
                    found[key] = tuple(self._functions_of(block, module))
                own = self._own_functions(block, module)
                for part in dict.fromkeys((*found[key], *own)):
                    # Some decoders have layers without positions.
                    if part != "rope" or getattr(module, "use_rope", True):
                        self._expected.append(layer_label(index, block, part))
                if block == "attn" and is_gated(module):
                    self._expected.append(layer_label(index, block, _GATE))

    def _functions_of(self, block: str, module: nn.Module) -> Iterator[str]:
        """Wraps the functions that the class of `module` calls; yields the parts that they are."""
        for part in parts(block):
            if part.is_function and self._found(module, part):
                yield part.name

    def _found(self, module: nn.Module, part: PartSpec) -> bool:
        """Wraps the functions that a part of `module` is; whether there are any."""
        if part.name == "attn_forward":
            return self._attention_cores(module, part)
        if part.methods:
            return self._cache_methods(module, part)
        if not self._globals(module, part):
            if part.required:
                self._missing[f"{part.path}: no function {part.functions[0]}"] += 1
            return False
        return True

    def _own_functions(self, block: str, module: nn.Module) -> Iterator[str]:
        """Wraps the functions that `module` holds itself; yields the parts that they are."""
        for part in parts(block):
            for name in part.functions:
                function = vars(module).get(name)
                if callable(function):
                    self._note(part.path, function)
                    self._function(module, name, function, part)
                    yield part.name

    def _cache_methods(self, module: nn.Module, part: PartSpec) -> bool:
        """Wraps what caches are updated by; whether there is any of it."""
        found = False
        for cls in (*_with_subclasses(Cache), *_own_caches(module)):
            for name in part.methods:
                if name in vars(cls):
                    found = True
                    self._function(cls, name, vars(cls)[name], part)
        if found:
            self._hooked[part.path] = None
        return found

    def _attention_cores(self, attn: nn.Module, part: PartSpec) -> bool:
        """Wraps every attention function that the code of `attn` may choose from.

        Returns:
            Whether the chosen one is among them.
        """
        (eager,) = part.functions
        names = _globals_with(attn, eager)
        cores: dict[str, Function] = {"eager": names[eager]} if names else {}
        if names:
            self._function(names, eager, cores["eager"], part)
        registry = _globals_with(attn, "ALL_ATTENTION_FUNCTIONS").get("ALL_ATTENTION_FUNCTIONS", {})
        # Under the same keys, since masks are chosen by them; and in the instance's own mapping,
        # so that the one which all classes share stays as it is.
        local = getattr(registry, "_local_mapping", registry)
        for key in list(registry):
            cores[key] = registry[key]
            self._function(local, key, cores[key], part)
        chosen = getattr(getattr(attn, "config", None), "_attn_implementation", None) or "eager"
        if chosen in cores:
            self._note(part.path, cores[chosen])
        else:
            self._missing[f"{part.path}: no attention function {chosen!r}"] += 1
        return chosen in cores

    def _globals(self, module: nn.Module, part: PartSpec) -> bool:
        """Wraps the functions of `part` in the source file of `module`; whether there are any."""
        places = [(name, _globals_with(module, name)) for name in part.functions]
        # A package that is not there is None under the name of its function.
        places = [(name, names) for name, names in places if callable(names.get(name))]
        for name, names in places:
            self._note(part.path, names[name])
            self._function(names, name, names[name], part)
        return bool(places)

    def _function(self, place: Any, name: str, original: Function, part: PartSpec) -> None:
        if part.package:
            original = self._called.noting(original, part.path)
        wrapper = self._maker.part_of_scope(original, part.name)
        if part.name == "attn_forward":
            wrapper = _followed(wrapper, self._maker.part_of_scope(_nothing, _GATE))
        self._patches.put(place, name, wrapper, shared=True)

    def _note(self, part: str, original: Function) -> None:
        self._hooked[part] = None
        where = _foreign(original)
        # Whose code those call that come from packages is known once they are called.
        if where is not None and part not in packages():
            self._replaced[f"{part}: {where}"] = None


def _blocks(layer: nn.Module) -> dict[str, nn.Module]:
    """The blocks of a layer that have parts, by name."""
    found = parts_of(layer, "layer")
    return {each.part: each.modules[0] for each in found if each.part in blocks()}


def _has_experts(found: Mapping[str, nn.Module]) -> bool:
    return "ffn" in found and is_moe(found["ffn"])


def _globals_with(module: nn.Module, name: str) -> dict[str, Any]:
    """The globals of the source file of `module`'s class, or of a base class, that have `name`."""
    for cls in type(module).__mro__:
        names = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
        if name in names:
            return names
    return {}


def _own_caches(module: nn.Module) -> list[type[Any]]:
    """The classes of caches in the source file of `module`'s class, which need be no `Cache`."""
    names = vars(sys.modules[type(module).__module__])
    return [
        cls
        for name, cls in names.items()
        if name.endswith("Cache") and isinstance(cls, type) and not issubclass(cls, Cache)
    ]


def _followed(function: Function, mark: Callable[[], None]) -> Function:
    """`function` with a call of `mark` behind it."""

    @functools.wraps(function, updated=())
    def followed(*args: Any, **kwargs: Any) -> Any:
        found = function(*args, **kwargs)
        mark()
        return found

    return followed


def _nothing() -> None:
    """What a label is put round that only says where it is."""


def _with_subclasses(cls: type[Any]) -> set[type[Any]]:
    return {cls}.union(*map(_with_subclasses, cls.__subclasses__()))


def _foreign(function: Function) -> str | None:
    """The dotted name of code that is neither torch's nor transformers', or None."""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    package = getattr(function, "__module__", None) or type(function).__module__
    if package.partition(".")[0] in ("torch", "transformers"):
        return None
    return f"{package}.{getattr(function, '__qualname__', type(function).__qualname__)}"
