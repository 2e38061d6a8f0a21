"""What Inductor and Dynamo write about modules, read back as paths of the model."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch

from qwen3_profile.errors import ConfigError
from qwen3_profile.measure.inductor import hooks as inductor
from qwen3_profile.measure.inductor.hooks import Compilations, _frames, check_inductor
from qwen3_profile.measure.inductor.module_labels import ModuleLabels
from qwen3_profile.measure.inductor.node_labels import Frame


class Model: ...


class Layer: ...


class Norm: ...


LABELS = ModuleLabels({}, {Model: "model", Layer: "model.layers.*"})


def path(root: str | None, *entries: tuple[str, Any]) -> str | None:
    found = Compilations(LABELS, root or "")
    return found._path({str(i): entry for i, entry in enumerate(entries)}, root)


@pytest.mark.parametrize(
    ("root", "entries", "expected"),
    [
        pytest.param(
            "", [("L['self'].model", Model), ("L['self'].model.layers.3.norm", Norm)],
            "model.layers.3.norm", id="of-the-model",
        ),
        pytest.param("", [("L['self'].lm_head", Norm)], "lm_head", id="only-itself"),
        pytest.param(
            "", [("L['self']._modules['model']._modules['layers']._modules['0']", Layer)],
            "model.layers.0", id="as-other-versions-write-it",
        ),
        pytest.param(
            "model.layers.*", [("L['self'].norm", Norm)], "model.layers.*.norm", id="of-a-layer"
        ),
        pytest.param(
            None, [("L['self'].layers.0", Layer), ("L['self'].layers.0.norm", Norm)],
            "model.layers.*.norm", id="behind-a-break-by-class",
        ),
        pytest.param(
            None, [("L['self'].layers.0", f"{__name__}.Layer")], "model.layers.*",
            id="a-class-by-its-name",
        ),
        pytest.param(None, [("L['self'].norm", Norm)], None, id="behind-a-break-unknown"),
        pytest.param("", [("L['other'].norm", Norm)], None, id="of-another-argument"),
    ],
)  # fmt: skip
def test_paths(root: str | None, entries: list[tuple[str, Any]], expected: str | None) -> None:
    assert path(root, *entries) == expected


def test_only_the_first_frame_is_the_model() -> None:
    """Behind a break of the graph, frames of other modules are compiled."""
    found = Compilations(LABELS, "model.layers.*")
    roots = []
    for frame in (3, 3, 4):
        compile_id = mock.Mock(frame_id=frame)
        with mock.patch.object(inductor, "_compile_id", return_value=compile_id):
            roots.append(found._frame_root())
    assert roots == ["model.layers.*", "model.layers.*", None]


def test_frames_of_a_stack_trace() -> None:
    text = (
        '  File "/lib/transformers/models/qwen3/modeling_qwen3.py", line 299, in forward\n'
        "    hidden_states, _ = self.self_attn(\n"
        '  File "/lib/transformers/cache_utils.py", line 482, in update\n'
        "    self.cumulative_length.add_(kv_length)\n"
    )
    assert _frames(text) == (
        Frame("modeling_qwen3.py", 299, "forward"), Frame("cache_utils.py", 482, "update"),
    )  # fmt: skip


def test_a_graph_runs_as_it_was_compiled_where_that_is_asked() -> None:
    found = Compilations(LABELS, "")
    made: list[str] = []

    def make(run: Any, *given: Any) -> Any:
        made.append(f"graph {len(made)}")
        name = made[-1]
        return lambda inputs: (name, given, inputs)

    call = found.with_choice(make)(lambda inputs: ("compiled", inputs), 7)
    assert call([1]) == ("graph 0", (7,), [1])
    with found.one_by_one():
        assert call([2]) == ("compiled", [2])
    with mock.patch("torch._inductor.cudagraph_trees.reset_cudagraph_trees") as reset:
        found.capture_anew()
    reset.assert_called_once_with()
    assert call([3]) == ("graph 1", (7,), [3])


def test_a_torch_without_the_map_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import debug

    monkeypatch.delattr(debug, inductor._KERNEL_MAP)
    with pytest.raises(ConfigError) as error:
        check_inductor(torch.device("cpu"))
    assert str(error.value).startswith("--compile: needs what torch 2.10 and later have, and this")


def test_a_torch_that_leaves_out_librarys_calls_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.9 numbers neither attention nor other operators that it falls back to."""
    from torch._inductor.ir import ExternKernel

    monkeypatch.setattr(ExternKernel, "codegen_comment", lambda self, wrapper: None)
    with pytest.raises(ConfigError, match=r"install torch 2\.10 or a later one"):
        check_inductor(torch.device("cpu"))


@pytest.mark.parametrize(
    ("device", "missing", "told"),
    [
        (
            "cpu",
            "qwen3_profile.measure.inductor.hooks._has_cpp_compiler",
            r"needs a C\+\+ compiler on a CPU",
        ),
        ("cuda", "importlib.util.find_spec", "needs Triton on a GPU"),
    ],
)
def test_a_machine_that_cannot_compile_is_told(device: str, missing: str, told: str) -> None:
    with mock.patch(missing, return_value=None), pytest.raises(ConfigError, match=told):
        check_inductor(torch.device(device))
