"""A new part, or a new block of a layer, is a few rows of the one table: all else follows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from make.labelled_models import label_counts, prefill_and_decode, recorded, tiny
from torch import nn

from qwen3_profile import label_parts, labels
from qwen3_profile.analysis.part_rows import family_of
from qwen3_profile.label_parts import PARTS, Gap, PartSpec
from qwen3_profile.measure import instrument
from qwen3_profile.measure.inductor import node_labels
from qwen3_profile.measure.inductor.module_labels import module_labels
from qwen3_profile.measure.inductor.node_labels import Frame, Node, label_nodes
from qwen3_profile.passes.compiled.part_names import scope_names

ROW = PartSpec("qk_scale", "attn", functions=("scale_qk",))
BLOCK = (
    PartSpec("mamba", "layer", "attention", then={"*": "residual_attn"}),
    PartSpec("conv", "mamba", then={"*": "split_heads"}),
    Gap("split_heads", "mamba"),
    PartSpec("scan", "mamba", functions=("selective_scan",)),
    PartSpec("norm", "mamba"),
    PartSpec("out_proj", "mamba"),
)


def forget() -> None:
    for module in (label_parts, labels, node_labels):
        for each in vars(module).values():
            getattr(each, "cache_clear", lambda: None)()


@pytest.fixture(autouse=True)
def _longer_table(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    at = next(i for i, row in enumerate(PARTS) if row.name == "rope")
    end = next(i for i, row in enumerate(PARTS) if row.name == "residual_attn")
    monkeypatch.setattr(
        label_parts, "PARTS", (*PARTS[:at], ROW, *PARTS[at:end], *BLOCK, *PARTS[end:])
    )
    forget()
    yield
    monkeypatch.undo()
    forget()


class Scale(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def scaled() -> nn.Module:
    """A model of which layer 1 scales its keys in a module of attention."""
    model = tiny("dense")
    attn = model.model.layers[1].self_attn
    attn.qk_scale = Scale()
    attn.k_norm.register_forward_hook(lambda norm, args, out: attn.qk_scale(out))
    return model


def test_a_module_is_labelled_where_a_model_has_it(tmp_path: Path) -> None:
    model = scaled()
    with instrument.labelled(model) as found, recorded(tmp_path) as roots:
        prefill_and_decode(model)
    assert found.missing == ()
    counts = label_counts(roots)
    assert (counts["layer.1.attn.qk_scale"], counts["layer.0.attn.qk_scale"]) == (2, 0)
    assert "layer.1.attn.qk_scale" in found.expected
    assert module_labels(model).labels["model.layers.*.self_attn.qk_scale"] == (
        "layer.*.attn.qk_scale"
    )


def test_no_qwen3_must_have_it() -> None:
    assert "layer.0.attn.qk_scale" not in labels.expected_labels(1, frozenset())
    with instrument.labelled(tiny("dense")) as found:
        pass
    assert found.missing == ()
    assert not any("qk_scale" in name for name in found.expected)


def test_a_function_is_labelled_in_a_compiled_graph() -> None:
    modules = {"": "", "model.layers.0": "layer.0", "model.layers.0.self_attn": "layer.0.attn"}
    frames = (Frame("modeling.py", 1, "forward"), Frame("modeling.py", 9, "scale_qk"))
    node = Node("mul", "aten.mul.Tensor", "model.layers.0.self_attn", frames)
    assert label_nodes([node], modules) == {"mul": "layer.0.attn.qk_scale"}


def test_it_is_ordered_and_coloured() -> None:
    names = ("layer.0.attn.rope", "layer.0.attn.qk_scale", "layer.0.attn.k_norm")
    assert scope_names(names)[-1] == "layer.0.attn.k_norm+qk_scale+rope"
    assert family_of(("prefill", "layers", "attn", "qk_scale")) == "attention"


class Mamba(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out_proj = (nn.Linear(32, 32, bias=False) for _ in range(3))

    def forward(self, hidden_states: torch.Tensor, **rest: object) -> tuple[torch.Tensor, None]:
        return self.out_proj(self.norm(self.conv(hidden_states).contiguous())), None


class MambaLayer(nn.Module):
    """A layer of a hybrid decoder."""

    def __init__(self, other: nn.Module) -> None:
        super().__init__()
        self.input_layernorm, self.mlp = other.input_layernorm, other.mlp
        self.post_attention_layernorm = other.post_attention_layernorm
        self.mamba = Mamba()
        self.attention_type = "full_attention"

    def forward(self, hidden_states: torch.Tensor, **rest: object) -> torch.Tensor:
        mixed = self.mamba(self.input_layernorm(hidden_states))[0]
        hidden_states = hidden_states + mixed
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))


def test_a_block_is_labelled_with_its_parts(tmp_path: Path) -> None:
    model = tiny("dense")
    model.model.layers[1] = MambaLayer(model.model.layers[1])
    with instrument.labelled(model) as found, recorded(tmp_path) as roots, torch.no_grad():
        model(torch.arange(10).view(2, 5), use_cache=False)
    counts = label_counts(roots)
    inside = {name for name in counts if name.startswith("layer.1.mamba")}
    assert inside == {f"layer.1.mamba{part}" for part in ("", ".conv", ".norm", ".out_proj")}
    assert inside <= set(found.expected)
    assert not any("no such module" in line for line in found.missing)
    assert labels.parse("layer.1.mamba") == labels.Label("mamba", "mamba", 1)
    assert labels.gap_name("mamba", "conv", "norm") == "split_heads"
    assert labels.gap_name("layer", "mamba", "post_attention_layernorm") == "residual_attn"
    assert family_of(("prefill", "layers", "mamba", "norm")) == "attention"
    assert module_labels(model).roots[Mamba] == "model.layers.*.mamba"
