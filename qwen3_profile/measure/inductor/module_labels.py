"""The labels of a model's modules by their paths, for what knows modules by these.

model.layers.7.self_attn.q_proj     layer.7.attn.q_proj
model.layers.*.self_attn.q_proj     layer.*.attn.q_proj, where a layer was compiled by itself
model                               "", the forward pass itself
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from qwen3_profile.label_parts import blocks
from qwen3_profile.labels import ANY_LAYER, is_container, layer_label
from qwen3_profile.measure.model.structure import find_decoder, owner_kind, parts_of, pieces_of


@dataclass(frozen=True, slots=True)
class ModuleLabels:
    """Where a model has its parts.

    labels: path -> label; of a container its label too.
    roots: class -> path of the modules that may be compiled by themselves: the model, its decoder,
        and of any layer the layer, its attention and its feed-forward part.
    """

    labels: dict[str, str]
    roots: dict[type, str]


def module_labels(model: nn.Module) -> ModuleLabels:
    """The labelled modules of `model`, as `instrument.labelled` labels them.

    Raises:
        ModelError: it has no decoder layers.
    """
    found = find_decoder(model)
    paths = {module: path for path, module in model.named_modules()}
    labels = {"": "", paths[found.stack]: ""}
    roots: dict[type, str] = {type(found.stack): paths[found.stack], type(model): ""}
    owners = [(found.stack, "decoder")]
    if found.stack is not model:
        owners.append((model, "model"))
    for owner, kind in owners:
        labels |= _parts(owner, kind, "", paths)
    for index, layer in enumerate(found.layers):
        mine = _layer(layer, layer_label(index), paths)
        labels |= mine
        path, anywhere = paths[layer], f"{paths[found.layers]}.*"
        for each, label in mine.items():
            starred = anywhere + each[len(path) :]
            labels.setdefault(starred, ANY_LAYER + label[len(layer_label(index)) :])
            if is_container(label):
                roots.setdefault(type(model.get_submodule(each)), starred)
    return ModuleLabels(labels, roots)


def _layer(layer: nn.Module, label: str, paths: dict[nn.Module, str]) -> dict[str, str]:
    labels = {paths[layer]: label, **_parts(layer, "layer", f"{label}.", paths)}
    for found in parts_of(layer, "layer"):
        if found.part in blocks():
            block = found.modules[0]
            prefix = f"{label}.{found.part}."
            labels |= _parts(block, owner_kind(found.part, block), prefix, paths)
    return labels


def _parts(owner: nn.Module, kind: str, prefix: str, paths: dict[nn.Module, str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for found in parts_of(owner, kind):
        for module in found.modules:
            labels[paths[module]] = label = prefix + found.part
            labels |= {paths[piece.module]: f"{label}.{piece.name}" for piece in pieces_of(module)}
    return labels
