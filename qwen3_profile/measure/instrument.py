"""A decoder of transformers -> the same model, labelled as `labels.py` says, undone on exit.

Modules are labelled by wrapping `forward` on the instance: hooks would leave their labels open
when a forward raises. What is no module (attention functions, rope, cache updates, mask makers)
is wrapped where the model code looks it up, and is labelled only inside a labelled model, so
that other models of the process stay as they are. Nothing of transformers is edited.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.cache_utils import Cache

from qwen3_profile.errors import ModelError
from qwen3_profile.labels import layer_label
from qwen3_profile.measure.model.structure import find_decoder, is_moe, parts_of, unnamed
from qwen3_profile.measure.patching import Function, Patches
from qwen3_profile.measure.ranges import (
    inside_phase,
    inside_range,
    inside_scope,
    part_of_scope,
    phase,
    step,
)

__all__ = ["Instrumentation", "labelled", "phase", "step"]

_ATTN_FUNCTIONS = ("rope", "kv_cache", "attn_forward")
_ROPE_FUNCTIONS = ("apply_rotary_pos_emb", "apply_rotary_pos_emb_interleave")
_MASK_MAKERS = (
    "create_causal_mask",
    "create_sliding_window_causal_mask",
    "create_chunked_causal_mask",
)


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
    """

    num_layers: int
    moe_layers: frozenset[int]
    hooked: tuple[str, ...]
    expected: tuple[str, ...]
    missing: tuple[str, ...]
    replaced: tuple[str, ...]


@contextmanager
def labelled(
    model: nn.Module, *, passes: bool = False, inside_layers: bool = True
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

    Raises:
        ModelError: it has no decoder layers, or one module in two places.
        RunError: it is labelled already.
    """
    with ExitStack() as undo:
        yield _Installer(undo, inside_layers).install(model, passes)


class _Installer:
    """One `labelled` block: what it has wrapped, and what it says of the model."""

    def __init__(self, undo: ExitStack, inside_layers: bool) -> None:
        self._patches = Patches(undo)
        self._inside_layers = inside_layers
        self._labels: dict[nn.Module, str] = {}
        self._expected: list[str] = []
        self._hooked: dict[str, None] = {}
        self._missing: Counter[str] = Counter()
        self._replaced: dict[str, None] = {}

    def install(self, model: nn.Module, passes: bool) -> Instrumentation:
        found = find_decoder(model)
        decoder, layers = found.stack, found.layers
        if decoder is not model:
            self._parts(model, "model")
            if passes:
                self._patches.put(model, "forward", inside_phase(model.forward, self._patches))
        self._parts(decoder, "decoder")
        self._causal_mask(decoder, passes and decoder is model)
        moe_layers = [index for index, layer in enumerate(layers) if self._layer(index, layer)]
        if self._inside_layers:
            self._attention_functions(layers)
        self._missing.update(unnamed(decoder, "decoder"))
        return Instrumentation(
            num_layers=len(layers),
            moe_layers=frozenset(moe_layers),
            hooked=tuple(self._hooked),
            expected=tuple(dict.fromkeys((*self._labels.values(), *self._expected))),
            missing=tuple(f"{why} ({n} times)" for why, n in self._missing.items()),
            replaced=tuple(self._replaced),
        )

    def _layer(self, index: int, layer: nn.Module) -> bool:
        """Labels one decoder layer; whether it is a mixture of experts."""
        if not self._inside_layers:
            return self._compiled_layer(index, layer)
        self._module(layer, layer_label(index), "layer")
        blocks: dict[str, nn.Module] = {}
        for found in parts_of(layer, "layer"):
            if found.part in ("attn", "ffn"):
                blocks[found.part] = found.modules[0]
            else:
                for module in found.modules:
                    self._module(module, layer_label(index, found.part), found.part)
        self._missing.update(unnamed(layer, "layer"))
        self._missing.update(f"{x}: no such module" for x in ("attn", "ffn") if x not in blocks)
        if "attn" in blocks:
            self._attention(index, blocks["attn"])
        return "ffn" in blocks and self._feed_forward(index, blocks["ffn"])

    def _compiled_layer(self, index: int, layer: nn.Module) -> bool:
        label = self._labels[layer] = layer_label(index)
        call: Function = vars(layer)["_compiled_call_impl"]
        self._patches.put(layer, "_compiled_call_impl", inside_range(call, label, self._patches))
        return any(p.part == "ffn" and is_moe(p.modules[0]) for p in parts_of(layer, "layer"))

    def _attention(self, index: int, attn: nn.Module) -> None:
        labels = {part: layer_label(index, "attn", part) for part in _ATTN_FUNCTIONS}
        self._module(attn, layer_label(index, "attn"), "attn", labels)
        self._parts(attn, "attn", index, "attn")

    def _feed_forward(self, index: int, ffn: nn.Module) -> bool:
        self._module(ffn, layer_label(index, "ffn"), "ffn")
        self._parts(ffn, "moe" if is_moe(ffn) else "ffn", index, "ffn")
        return is_moe(ffn)

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
        functions: Mapping[str, str] | None = None,
    ) -> None:
        """Labels `module`, and with the labels of `functions` the functions called inside it."""
        other = self._labels.setdefault(module, label)
        if other != label:
            raise ModelError(label, f"is the same module as {other}", "give each its own")
        forward: Function = module.forward
        self._note(part, forward)
        if functions is not None:
            forward = inside_scope(forward, functions, self._patches)
        self._patches.put(module, "forward", inside_range(forward, label, self._patches))

    def _causal_mask(self, decoder: nn.Module, is_pass: bool) -> None:
        labels = {"causal_mask": "causal_mask"}
        forward = inside_scope(decoder.forward, labels, self._patches)
        if is_pass:
            forward = inside_phase(forward, self._patches)
        self._patches.put(decoder, "forward", forward)
        found = [self._global(decoder, name, "causal_mask") for name in _MASK_MAKERS]
        method = getattr(decoder, "_update_causal_mask", None)  # transformers 4.51 and 4.52
        if method is not None:
            self._note("causal_mask", method)
            self._function(vars(decoder), "_update_causal_mask", method, "causal_mask")
        elif not any(found):
            self._missing["causal_mask: no mask maker that we know"] += 1

    def _attention_functions(self, layers: nn.ModuleList) -> None:
        attentions = [(i, getattr(layer, "self_attn", None)) for i, layer in enumerate(layers)]
        parts_by_class: dict[type, tuple[str, ...]] = {}
        for index, attn in attentions:
            if not isinstance(attn, nn.Module):
                continue
            if type(attn) not in parts_by_class:
                parts_by_class[type(attn)] = tuple(self._functions_of(attn))
            for part in parts_by_class[type(attn)]:
                # Some decoders have layers without positions.
                if part != "rope" or getattr(attn, "use_rope", True):
                    self._expected.append(layer_label(index, "attn", part))
        for cls in _with_subclasses(Cache):
            if "update" in vars(cls):
                self._function(cls, "update", vars(cls)["update"], "kv_cache")

    def _functions_of(self, attn: nn.Module) -> Iterator[str]:
        """Wraps the functions that the class of `attn` calls; yields the parts that they are."""
        found = [self._global(attn, name, "attn.rope") for name in _ROPE_FUNCTIONS]
        if any(found):
            yield "rope"
        else:
            self._missing["attn.rope: no function apply_rotary_pos_emb"] += 1
        self._hooked["attn.kv_cache"] = None
        yield "kv_cache"
        if self._attention_cores(attn):
            yield "attn_forward"

    def _attention_cores(self, attn: nn.Module) -> bool:
        """Wraps every attention function that the code of `attn` may choose from.

        Returns:
            Whether the chosen one is among them.
        """
        cores: dict[str, Function] = {}
        names = _globals_with(attn, "eager_attention_forward")
        if names:
            cores["eager"] = names["eager_attention_forward"]
            self._function(names, "eager_attention_forward", cores["eager"], "attn_forward")
        registry = _globals_with(attn, "ALL_ATTENTION_FUNCTIONS").get("ALL_ATTENTION_FUNCTIONS", {})
        # Under the same keys, since masks are chosen by them; and in the instance's own mapping,
        # so that the one which all classes share stays as it is.
        local = getattr(registry, "_local_mapping", registry)
        for key in list(registry):
            cores[key] = registry[key]
            self._function(local, key, cores[key], "attn_forward")
        chosen = getattr(getattr(attn, "config", None), "_attn_implementation", None) or "eager"
        if chosen in cores:
            self._note("attn.attn_forward", cores[chosen])
        else:
            self._missing[f"attn.attn_forward: no attention function {chosen!r}"] += 1
        return chosen in cores

    def _global(self, module: nn.Module, name: str, part: str) -> bool:
        """Wraps the global `name` of the source file of `module`; whether there is one."""
        names = _globals_with(module, name)
        if not names:
            return False
        self._note(part, names[name])
        self._function(names, name, names[name], part.removeprefix("attn."))
        return True

    def _function(self, place: Any, name: str, original: Function, part: str) -> None:
        self._patches.put(place, name, part_of_scope(original, part), shared=True)

    def _note(self, part: str, original: Function) -> None:
        self._hooked[part] = None
        where = _foreign(original)
        if where is not None:
            self._replaced[f"{part}: {where}"] = None


def _globals_with(module: nn.Module, name: str) -> dict[str, Any]:
    """The globals of the source file of `module`'s class, or of a base class, that have `name`."""
    for cls in type(module).__mro__:
        names = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
        if name in names:
            return names
    return {}


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
