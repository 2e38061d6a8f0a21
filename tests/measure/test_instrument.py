"""Labels on real, tiny models: complete, in place, harmless, and gone afterwards."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from make.labelled_models import (
    TOKENS,
    Node,
    attention_registry,
    gaps_without_a_name,
    label_counts,
    modeling,
    prefill_and_decode,
    recorded,
    tiny,
    unchanged,
)
from torch import nn
from torch.autograd import profiler as autograd_profiler
from transformers import StaticCache

from qwen3_profile import labels
from qwen3_profile.errors import ModelError, RunError
from qwen3_profile.measure import instrument, ranges

# The first sequence has two tokens of padding. One mask for each of the two forward passes.
PADDED = (torch.tensor([[0, 0, 1, 1, 1], [1] * 5]), torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6]))

# (container, label before, label after, op) -> why this op stays in the container's `other`.
KNOWN_OTHER = {
    ("ffn", None, "router", "aten::view"): "a view of the tokens as rows; it moves no data",
}


ATTENTIONS = [
    pytest.param("sdpa", id="sdpa"),
    pytest.param("eager", id="eager"),
    pytest.param("flex_attention", id="flex"),
]
KINDS = [
    pytest.param("dense", id="dense"),
    pytest.param("moe", id="mixture of experts with one dense layer"),
]


@pytest.fixture
def uncompiled_flex() -> Iterator[None]:
    # Compiling flex attention takes a minute; the labels do not depend on it.
    torch.compiler.set_stance("force_eager")
    yield
    torch.compiler.set_stance("default")


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.usefixtures("uncompiled_flex")
@pytest.mark.parametrize("attn", ATTENTIONS)
@pytest.mark.parametrize("kind", KINDS)
class TestCoverage:
    @pytest.mark.parametrize(
        "inputs",
        [
            pytest.param({}, id="plain"),
            pytest.param({"masks": PADDED}, id="padded"),
        ],
    )
    def test_every_op_has_a_name(
        self, kind: str, attn: str, inputs: dict[str, Any], tmp_path: Path
    ) -> None:
        model = tiny(kind, attn)
        with instrument.labelled(model), recorded(tmp_path) as roots:
            prefill_and_decode(model, **inputs)
        assert [root.name for root in roots] == ["prefill", "decode"]
        assert set(gaps_without_a_name(roots)) <= KNOWN_OTHER.keys()

    def test_labels_are_those_of_the_config(self, kind: str, attn: str, tmp_path: Path) -> None:
        model = tiny(kind, attn)
        with instrument.labelled(model) as found, recorded(tmp_path) as roots:
            prefill_and_decode(model)
        assert found.num_layers == 2
        assert found.moe_layers == frozenset({0} if kind == "moe" else ())
        assert found.missing == found.replaced == ()
        expected = {*labels.expected_labels(2, found.moe_layers), "causal_mask"}
        assert [root.name for root in roots] == ["prefill", "decode"]
        for root in roots:
            counts = label_counts([root])
            assert counts.keys() == {root.name, *expected}
            several = {name for name, count in counts.items() if count > 1}
            experts = getattr(model.model.layers[0].mlp, "experts", None)
            # transformers 4 calls one module per expert
            is_list = isinstance(experts, nn.ModuleList)
            assert several == ({"layer.0.ffn.experts"} if is_list else set())

    def test_passes_are_annotations_and_labels_cheap_ranges(
        self, kind: str, attn: str, tmp_path: Path
    ) -> None:
        model = tiny(kind, attn)
        with instrument.labelled(model), recorded(tmp_path) as roots:
            prefill_and_decode(model)
        nodes = [node for root in roots for node in root.walk() if node.label]
        for node in nodes:
            kind_of_label = "user_annotation" if node.label.kind == "phase" else "cpu_op"
            assert (node.name, node.category) == (node.name, kind_of_label)

    def test_labels_lie_inside_their_own_layer(self, kind: str, attn: str, tmp_path: Path) -> None:
        model = tiny(kind, attn)
        with instrument.labelled(model), recorded(tmp_path) as roots:
            prefill_and_decode(model)
        for root in roots:
            assert_well_nested(root)

    def test_results_are_bitwise_the_same(self, kind: str, attn: str, tmp_path: Path) -> None:
        model = tiny(kind, attn)
        bare = prefill_and_decode(model)
        with instrument.labelled(model):
            quiet = prefill_and_decode(model)
            with recorded(tmp_path):
                traced = prefill_and_decode(model)
        for logits in (quiet, traced):
            assert all(torch.equal(a, b) for a, b in zip(bare, logits, strict=True))


def assert_well_nested(node: Node) -> None:
    for child in node.children:
        if child.label:
            assert node.label, f"{child.name} lies in the op {node.name}"
            parent = child.name.rpartition(".")[0]
            inside = {"layer": "phase"}.get(parent) or (parent if parent else "phase")
            assert inside in (node.name, node.label.kind), f"{child.name} lies in {node.name}"
        assert_well_nested(child)


@pytest.mark.parametrize("kind", KINDS)
def test_static_cache_is_labelled(kind: str, tmp_path: Path) -> None:
    model = tiny(kind)
    cache = StaticCache(config=model.config, max_batch_size=2, max_cache_len=16)
    with instrument.labelled(model), recorded(tmp_path) as roots:
        prefill_and_decode(model, cache=cache)
    assert label_counts(roots)["layer.1.attn.kv_cache"] == 2
    assert set(gaps_without_a_name(roots)) <= KNOWN_OTHER.keys()


def test_attention_registered_by_somebody_is_labelled_once(tmp_path: Path) -> None:
    model = tiny("dense")
    registry = attention_registry(model)

    def flash_like(*args: Any, **kwargs: Any) -> Any:
        return registry["sdpa"](*args, **kwargs)

    registry.register("flash_like", flash_like)
    try:
        model.config._attn_implementation = "flash_like"
        with instrument.labelled(model) as found, recorded(tmp_path) as roots:
            assert registry["flash_like"] is not flash_like
            assert registry._global_mapping["flash_like"] is flash_like
            prefill_and_decode(model)
        assert registry["flash_like"] is flash_like
    finally:
        del registry._global_mapping["flash_like"]
    assert label_counts(roots)["layer.0.attn.attn_forward"] == 2
    assert found.replaced == (f"attn.attn_forward: {__name__}.{flash_like.__qualname__}",)


class TestUndo:
    @pytest.mark.parametrize("kind", KINDS)
    def test_after_a_run_everything_is_as_before(self, kind: str, tmp_path: Path) -> None:
        model = tiny(kind)
        with unchanged(model), instrument.labelled(model), recorded(tmp_path):
            prefill_and_decode(model)

    @pytest.mark.parametrize(
        "error",
        [
            pytest.param(ZeroDivisionError("layer"), id="exception in a layer"),
            pytest.param(KeyboardInterrupt(), id="interrupt in a layer"),
        ],
    )
    def test_after_an_error_everything_is_as_before(
        self, error: BaseException, tmp_path: Path
    ) -> None:
        model = tiny("dense")

        def fail(*args: Any) -> None:
            raise error

        handle = model.model.layers[1].mlp.act_fn.register_forward_hook(fail)
        with (
            unchanged(model),
            recorded(tmp_path) as roots,
            pytest.raises(type(error)),
            instrument.labelled(model),
        ):
            prefill_and_decode(model)
        assert_well_nested(roots[0])
        handle.remove()

    def test_an_error_leaves_no_label_open(self, tmp_path: Path) -> None:
        model = tiny("dense")

        def fail(*args: Any) -> None:
            raise KeyboardInterrupt

        with instrument.labelled(model), recorded(tmp_path) as roots:
            core = model.model.layers[0].self_attn.o_proj.register_forward_pre_hook(fail)
            with pytest.raises(KeyboardInterrupt):
                prefill_and_decode(model)
            core.remove()
            prefill_and_decode(model)
        assert [root.name for root in roots] == ["prefill", "prefill", "decode"]
        for root in roots:
            assert_well_nested(root)

    def test_what_others_put_in_our_place_stays(self, tmp_path: Path) -> None:
        model = tiny("dense")
        norm, names = model.model.norm, vars(modeling(model))
        rope = names["apply_rotary_pos_emb"]
        with instrument.labelled(model):
            ours, our_rope = norm.forward, names["apply_rotary_pos_emb"]
            theirs = norm.forward = lambda x: ours(x)
            their_rope = names["apply_rotary_pos_emb"] = lambda *a, **k: our_rope(*a, **k)
        try:
            assert norm.forward is theirs
            assert names["apply_rotary_pos_emb"] is their_rope
            with recorded(tmp_path) as roots:
                prefill_and_decode(model)
            assert label_counts(roots) == {"prefill": 1, "decode": 1}
        finally:
            names["apply_rotary_pos_emb"] = rope

    def test_a_wrapper_that_others_put_back_does_not_lock_the_model(self, tmp_path: Path) -> None:
        model = tiny("dense")
        with instrument.labelled(model):
            ours = model.model.norm.forward
            theirs = model.model.norm.forward = functools.wraps(ours)(lambda x: ours(x))
        assert model.model.norm.forward is theirs
        model.model.norm.forward = ours
        with instrument.labelled(model), recorded(tmp_path) as roots:
            prefill_and_decode(model)
        assert label_counts(roots)["norm"] == 2

    def test_labelling_twice_is_an_error_and_harms_nothing(self, tmp_path: Path) -> None:
        model = tiny("dense")
        with unchanged(model), instrument.labelled(model), recorded(tmp_path) as roots:
            with pytest.raises(RunError, match="labelled already"), instrument.labelled(model):
                pytest.fail("labelled twice")
            prefill_and_decode(model)
        assert set(label_counts(roots).values()) == {2} | {1}
        assert label_counts(roots)["layer.1.attn.rope"] == 2

    def test_a_wrapper_that_copies_our_attributes_is_not_ours(self) -> None:
        model = tiny("dense")
        names = vars(modeling(model))
        rope = names["apply_rotary_pos_emb"]
        with instrument.labelled(model):
            ours = names["apply_rotary_pos_emb"]
            theirs = functools.wraps(ours)(lambda *a, **k: ours(*a, **k))
            names["apply_rotary_pos_emb"] = theirs
        try:
            with instrument.labelled(model):
                pass
            assert names["apply_rotary_pos_emb"] is theirs
        finally:
            names["apply_rotary_pos_emb"] = rope

    def test_blocks_may_end_in_any_order(self, tmp_path: Path) -> None:
        first, second = tiny("dense"), tiny("dense")
        with unchanged(first), unchanged(second):
            outer, inner = ExitStack(), ExitStack()
            outer.enter_context(instrument.labelled(first))
            inner.enter_context(instrument.labelled(second))
            outer.close()
            with recorded(tmp_path) as roots:
                prefill_and_decode(first)
                prefill_and_decode(second)
            inner.close()
        assert label_counts(roots[:2]) == {"prefill": 1, "decode": 1}
        assert label_counts(roots[2:])["layer.1.attn.rope"] == 2


class TestReach:
    def test_other_models_of_the_process_get_no_labels(self, tmp_path: Path) -> None:
        model, other = tiny("dense"), tiny("dense")
        with instrument.labelled(model), recorded(tmp_path) as roots:
            prefill_and_decode(other)
        assert label_counts(roots) == {"prefill": 1, "decode": 1}

    def test_no_range_is_made_while_no_profiler_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(name: str) -> None:
            pytest.fail(f"range {name} without a profiler")

        monkeypatch.setattr(ranges, "annotation_range", fail)
        monkeypatch.setattr(ranges, "label_range", fail)
        model = tiny("moe")
        with instrument.labelled(model), instrument.step(0):
            prefill_and_decode(model)

    def test_generate_gives_the_same_tokens(self, tmp_path: Path) -> None:
        model = tiny("dense")
        settings = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
        mask = torch.ones_like(TOKENS)
        bare = model.generate(TOKENS, attention_mask=mask, **settings)
        with instrument.labelled(model), recorded(tmp_path) as roots:
            traced = model.generate(TOKENS, attention_mask=mask, **settings)
        assert torch.equal(bare, traced)
        assert label_counts(roots)["layer.1.ffn.down_proj"] == 3

    def test_a_compiled_model_is_whole_and_has_no_labels(self, tmp_path: Path) -> None:
        model = tiny("dense")
        bare = model(TOKENS, use_cache=False).logits
        with instrument.labelled(model), torch.no_grad():
            compiled = torch.compile(model, backend="eager", fullgraph=True)
            compiled(TOKENS, use_cache=False)
            with recorded(tmp_path) as roots:
                logits = compiled(TOKENS, use_cache=False).logits
        torch.compiler.reset()
        torch.testing.assert_close(logits, bare)
        assert not label_counts(roots)

    def test_step_and_phase(self, tmp_path: Path) -> None:
        with recorded(tmp_path) as roots, instrument.step(3), instrument.phase("decode"):
            torch.ones(1)
        assert [node.name for node in roots[0].walk()][:2] == ["ProfilerStep#3", "decode"]
        with pytest.raises(ValueError, match="warmup"):
            instrument.phase("warmup")


class Recorder:
    """Stands for the profiler's ranges: keeps each thread's labels, and can hold a thread up."""

    def __init__(self) -> None:
        self.seen: dict[str, list[tuple[str, ...]]] = {}
        self.gates: dict[tuple[str, str], Callable[[], object]] = {}
        self._local = threading.local()

    @contextmanager
    def __call__(self, label: str) -> Iterator[None]:
        thread = threading.current_thread().name
        stack = self._local.__dict__.setdefault("stack", [])
        stack.append(label)
        self.seen.setdefault(thread, []).append(tuple(stack))
        self.gates.get((thread, label), lambda: None)()
        try:
            yield
        finally:
            stack.pop()


@pytest.mark.parametrize(
    "same_model",
    [pytest.param(True, id="one model"), pytest.param(False, id="two models")],
)
def test_threads_do_not_mix_layers(same_model: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(ranges, "annotation_range", recorder)
    monkeypatch.setattr(ranges, "label_range", recorder)
    monkeypatch.setattr(autograd_profiler, "_is_profiler_enabled", True)
    model = tiny("dense")
    other = model if same_model else tiny("dense")
    # `a` stands in layer 0 until `b` is in layer 1, and `b` there until `a` has reached layer 1.
    b_is_in, a_is_on = threading.Event(), threading.Event()
    recorder.gates = {
        ("a", "layer.0.attn.q_proj"): lambda: b_is_in.wait(10),
        ("b", "layer.1.attn.q_proj"): lambda: (b_is_in.set(), a_is_on.wait(10)),
        ("a", "layer.1.attn"): a_is_on.set,
    }
    with ExitStack() as stack:
        for each in {model, other}:
            stack.enter_context(instrument.labelled(each))
        threads = [
            threading.Thread(target=lambda m=m: m(TOKENS), name=name)
            for name, m in (("a", model), ("b", other))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert b_is_in.is_set()
    assert a_is_on.is_set()
    assert recorder.seen["a"] == recorder.seen["b"]
    for path in recorder.seen["a"]:
        assert list(path) == [name for name in path if path[-1].startswith(name)]
    assert {path[-1] for path in recorder.seen["a"]} == {
        *labels.expected_labels(2, frozenset()),
        "causal_mask",
    }


class TestFindings:
    def test_code_of_others_is_named(self) -> None:
        model = tiny("dense")

        def kernel(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
            return x

        for layer in model.model.layers:
            layer.input_layernorm.forward = MethodType(kernel, layer.input_layernorm)
        with unchanged(model), instrument.labelled(model) as found:
            pass
        assert found.replaced == (f"input_layernorm: {__name__}.{kernel.__qualname__}",)

    def test_a_part_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        model = tiny("dense")
        for layer in model.model.layers:
            del layer.mlp.act_fn
            layer.mlp.act_fn = nn.functional.silu
        with instrument.labelled(model) as found, recorded(tmp_path) as roots:
            prefill_and_decode(model)
        assert found.missing == ("ffn.act_fn: no module act_fn (2 times)",)
        assert "ffn.act_fn" not in found.hooked
        assert "layer.0.ffn.act_fn" not in label_counts(roots)

    def test_an_unknown_attention_function_is_told(self) -> None:
        model = tiny("dense")
        model.config._attn_implementation = "flash_attention_9"
        with instrument.labelled(model) as found:
            pass
        assert found.missing == (
            "attn.attn_forward: no attention function 'flash_attention_9' (1 times)",
        )

    @pytest.mark.parametrize(
        "part",
        [
            pytest.param("self_attn", id="an attention"),
            pytest.param("mlp", id="a feed-forward"),
        ],
    )
    def test_one_module_in_two_layers_is_refused(self, part: str) -> None:
        model = tiny("dense")
        layers = model.model.layers
        setattr(layers[1], part, getattr(layers[0], part))
        with (
            unchanged(model),
            pytest.raises(ModelError, match=r"layer\.1\.\w+: is the same module as layer\.0"),
            instrument.labelled(model),
        ):
            pytest.fail("labelled")

    def test_what_is_no_causal_model_is_refused(self) -> None:
        with pytest.raises(ModelError, match="Linear: has no decoder layers"):
            instrument.labelled(nn.Linear(1, 1)).__enter__()
