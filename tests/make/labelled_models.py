"""Tiny models that are labelled, and what the profiler records of them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from torch.profiler import ProfilerActivity, profile
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.cache_utils import Cache

from qwen3_profile import labels
from qwen3_profile.measure import instrument

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "eos_token_id": None,
}


TOKENS = torch.arange(10).view(2, 5)


NEXT = torch.arange(2).view(2, 1)


def tiny(kind: str, attn: str = "sdpa") -> nn.Module:
    """A dense model; or a mixture of experts whose layer 1 is dense."""
    torch.manual_seed(0)
    if kind == "dense":
        return Qwen3ForCausalLM(Qwen3Config(**SHAPE, attn_implementation=attn)).eval()
    config = Qwen3MoeConfig(
        **SHAPE,
        attn_implementation=attn,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        mlp_only_layers=[1],
        decoder_sparse_step=1,
    )
    return Qwen3MoeForCausalLM(config).eval()


# Model type -> what its classes are called; three layers of four mix tokens by a delta net.
HYBRIDS = {
    "qwen3_next": "Qwen3Next",
    "qwen3_5_text": "Qwen3_5",
    "qwen3_5_moe_text": "Qwen3_5Moe",
    "qwen4_exp_text": "Qwen4Exp",
}
_ROPE = {
    "rope_type": "default",
    "rope_theta": 1e7,
    "partial_rotary_factor": 0.5,
    "mrope_section": [1, 1, 0],
    "mrope_interleaved": True,
}


def hybrid_config(model_type: str, layers: int = 4) -> dict[str, Any]:
    """The config.json of a tiny hybrid, as the published ones are written."""
    values: dict[str, Any] = {
        **SHAPE,
        "model_type": model_type,
        "num_hidden_layers": layers,
        "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * (layers // 4),
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_conv_kernel_dim": 4,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "rope_parameters": _ROPE,
    }
    if model_type == "qwen3_next":
        values |= {"rope_theta": 1e7, "partial_rotary_factor": 0.5, "rope_scaling": None}
        del values["rope_parameters"]
    if model_type != "qwen3_5_text":
        values |= {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
        }
    if model_type == "qwen4_exp_text":
        values |= {
            "eos_token_id": 1,
            "hc_count": 2,
            "hc_lowrank": 4,
            "ple_layer_ids": [2],
            "heads_per_ngram": 2,
            "ngram_vocab_size_base": 100,
            "split_ngram_parts": 2,
            "indexer_n_heads": 2,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 8,
            "indexer_budget": 16,
            "indexer_compress_ratio": 4,
            "output_gate_type": "sigmoid",
        }
    return values


def has_hybrid(model_type: str) -> bool:
    """Whether this transformers has the classes of a hybrid."""
    return hasattr(transformers, f"{HYBRIDS[model_type]}ForCausalLM")


def has_states() -> bool:
    """Whether its caches have linear layers; before, a hybrid had a cache of its own."""
    return hasattr(transformers.cache_utils, "LinearAttentionLayer")


def tiny_hybrid(model_type: str) -> nn.Module:
    """A decoder of which layers 0 to 2 are linear and layer 3 is gated attention."""
    torch.manual_seed(0)
    model = getattr(transformers, f"{HYBRIDS[model_type]}ForCausalLM")
    return model(model.config_class.from_dict(hybrid_config(model_type))).eval()


@dataclass
class Node:
    name: str
    category: str
    children: list[Node] = field(default_factory=list)

    @property
    def label(self) -> labels.Label | None:
        return labels.parse(self.name)

    def walk(self) -> Iterator[Node]:
        yield self
        for child in self.children:
            yield from child.walk()


@contextmanager
def recorded(tmp_path: Path) -> Iterator[list[Node]]:
    """Fills the list with the trees of host events, one tree per outermost event."""
    roots: list[Node] = []
    with profile(activities=[ProfilerActivity.CPU]) as prof:
        yield roots
    path = tmp_path / "trace.json"
    prof.export_chrome_trace(str(path))
    events = json.loads(path.read_text())["traceEvents"]
    spans = sorted(
        (round(event["ts"] * 1000), -round(event["dur"] * 1000), index)
        for index, event in enumerate(events)
        if event.get("cat") in ("cpu_op", "user_annotation")
    )
    stack: list[tuple[int, Node]] = []
    for start, minus_dur, index in spans:
        while stack and stack[-1][0] <= start:
            stack.pop()
        node = Node(events[index]["name"], events[index]["cat"])
        (stack[-1][1].children if stack else roots).append(node)
        stack.append((start - minus_dur, node))


def label_counts(roots: list[Node]) -> Counter[str]:
    return Counter(node.name for root in roots for node in root.walk() if node.label)


@torch.inference_mode()
def prefill_and_decode(
    model: nn.Module,
    masks: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None),
    cache: Cache | None = None,
) -> list[torch.Tensor]:
    """The logits of a prefill of 2 x 5 tokens and of one decode step behind it."""
    with instrument.phase("prefill"):
        first = model(
            TOKENS,
            attention_mask=masks[0],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    with instrument.phase("decode"):
        second = model(
            NEXT,
            attention_mask=masks[1],
            past_key_values=first.past_key_values,
            use_cache=True,
            logits_to_keep=1,
        )
    return [first.logits, second.logits]


def attention_registry(model: nn.Module) -> Any:
    return vars(modeling(model))["ALL_ATTENTION_FUNCTIONS"]


def modeling(model: nn.Module) -> Any:
    return sys.modules[type(model).__module__]


def all_cache_classes(cls: type = Cache) -> list[type]:
    return [cls, *(each for child in cls.__subclasses__() for each in all_cache_classes(child))]


def everything(model: nn.Module) -> dict[str, Any]:
    """Whatever labelling may touch, by name."""
    places = {f"module {name}": vars(module) for name, module in model.named_modules()}
    places["globals"] = vars(modeling(model))
    places["registry"] = attention_registry(model)._local_mapping
    places["shared registry"] = attention_registry(model)._global_mapping
    places |= {f"class {cls.__qualname__}": dict(vars(cls)) for cls in all_cache_classes()}
    return {f"{place}: {key}": value for place, own in places.items() for key, value in own.items()}


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    before = everything(model)
    yield
    after = everything(model)
    assert after.keys() == before.keys()
    assert [key for key, value in after.items() if value is not before[key]] == []


def gaps_without_a_name(
    roots: list[Node],
) -> Iterator[tuple[str, str | None, str | None, str]]:
    """(container, label before, label after, op) of ops that have no label and no gap's name."""
    for container in (node for root in roots for node in root.walk() if node.label):
        kind, inner = container.label.kind, container.children
        if kind == "leaf":
            continue
        names = [child.label.name if child.label else None for child in inner]
        for index, child in enumerate(inner):
            before = next((name for name in reversed(names[:index]) if name), None)
            after = next((name for name in names[index + 1 :] if name), None)
            if names[index] is None and labels.gap_name(kind, before, after) is None:
                yield kind, before, after, child.name
