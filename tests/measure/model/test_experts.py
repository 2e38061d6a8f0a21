"""Experts: which implementation runs, who gets how many tokens, and how uneven that is."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from make.commands import Commands, Done, environment, wait
from make.forking import Forked
from torch import nn

from qwen3_profile.config import ModelRequest, RunConfig
from qwen3_profile.errors import ConfigError, ModelError
from qwen3_profile.measure.model import experts
from qwen3_profile.measure.model import load as models
from qwen3_profile.measure.model.experts import RoutingCounter, counted_routing
from qwen3_profile.measure.model.memory import least_needed
from qwen3_profile.run_folder.routing import LayerRouting, routing_sentence

CPU = torch.device("cpu")
OFFERED = experts.experts_names()
chooses = pytest.mark.skipif(len(OFFERED) == 1, reason="this transformers offers no choice")


# --- how uneven


@pytest.mark.parametrize(
    ("counts", "imbalance", "idle"),
    [
        pytest.param((4, 4, 4, 4), 1.0, 0, id="even"),
        pytest.param((8, 4, 4, 0), 2.0, 1, id="one with twice the mean, one without"),
        pytest.param((0, 0, 0, 16), 4.0, 3, id="all to one"),
        pytest.param((3, 2, 0), 1.8, 1, id="3 of a mean of 5/3"),
        pytest.param((0, 0), 0.0, 2, id="no tokens"),
    ],
)
def test_imbalance_by_hand(counts: tuple[int, ...], imbalance: float, idle: int) -> None:
    found = LayerRouting(0, counts)
    assert found.imbalance == pytest.approx(imbalance)
    assert found.idle_experts == idle


def test_the_sentence_names_the_worst_layer_and_the_weights() -> None:
    layers = (LayerRouting(0, (2, 2)), LayerRouting(5, (4, 0)), LayerRouting(6, (3, 1)))
    assert routing_sentence(layers, "random") == (
        "Routing with random weights: the busiest of 2 experts gets 1.00 to 2.00x the mean "
        "(most in layer 5); up to 1 get no tokens."
    )
    assert "gets 1.00x the mean" in routing_sentence(layers[:1], "pretrained")
    assert routing_sentence((), "random") == ""


# --- counting, on models whose routing is known


class Fused(nn.Module):
    """Experts as transformers 5 has them: one module, which is told who goes where."""

    num_experts = 4

    def forward(self, hidden: torch.Tensor, chosen: Any, scores: Any) -> torch.Tensor:
        return hidden


class Block(nn.Module):
    """A feed-forward part that sends its tokens as `chosen` says, [tokens][top_k]."""

    def __init__(self, many: nn.Module, chosen: list[list[int]], by_name: bool = False) -> None:
        super().__init__()
        self.experts = many
        self._chosen = torch.tensor(chosen)
        self._by_name = by_name

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        scores = torch.ones(self._chosen.shape)
        if isinstance(self.experts, nn.ModuleList):  # transformers 4
            for index, expert in enumerate(self.experts):
                expert(hidden[(self._chosen == index).any(-1)])
            return hidden
        if self._by_name:
            return self.experts(hidden, scores=scores, chosen=self._chosen)
        return self.experts(hidden, self._chosen, scores)


class Toy(nn.Module):
    """A dense layer, and one of these for each block."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        layers = []
        for mlp in (nn.Linear(3, 3), *blocks):
            layer = nn.Module()
            layer.mlp = mlp
            layers.append(layer)
        self.model = nn.Module()
        self.model.layers = nn.ModuleList(layers)
        self.config = SimpleNamespace()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        for layer in self.model.layers:
            hidden = layer.mlp(hidden)
        return hidden


CHOSEN = [[0, 1], [0, 3], [0, 1]]


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(lambda: Block(Fused(), CHOSEN), id="one module for all"),
        pytest.param(lambda: Block(Fused(), CHOSEN, by_name=True), id="called by names"),
        pytest.param(
            lambda: Block(nn.ModuleList(nn.Linear(3, 3) for _ in range(4)), CHOSEN),
            id="a module for each",
        ),
    ],
)
def test_tokens_per_expert_by_hand(block: Any) -> None:
    model, hidden = Toy(block(), block()), torch.ones(3, 3)
    with counted_routing(model) as counter:
        model(hidden)
        assert counter.take() == (LayerRouting(1, (3, 2, 0, 1)), LayerRouting(2, (3, 2, 0, 1)))
        assert counter.take() == ()
        model(hidden)
        model(hidden)
        assert counter.take()[0].tokens_per_expert == (6, 4, 0, 2)
    model(hidden)
    assert counter.take() == ()


def test_hooks_go_when_a_forward_fails() -> None:
    model = Toy(Block(Fused(), CHOSEN))
    with pytest.raises(KeyboardInterrupt), counted_routing(model):
        raise KeyboardInterrupt
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_experts_that_take_every_token_are_left_out() -> None:
    class Every(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.Linear(3, 3)

        def forward(self, hidden: torch.Tensor) -> Any:
            return self.experts(hidden)

    model = Toy(Every())
    with counted_routing(model) as counter:
        model(torch.ones(3, 3))
        assert counter.take() == ()


def test_counter_keeps_layers_in_order() -> None:
    counter = RoutingCounter()
    counter.add(10, torch.tensor([1, 0]))
    counter.add(2, torch.tensor([0, 1]))
    assert [each.layer for each in counter.take()] == [2, 10]


# --- which implementation runs


def load(model: Path) -> models.LoadedModel:
    return models.load_model(ModelRequest(str(model), "random"), "float32", None, CPU)


@chooses
def test_experts_are_changed_on_the_same_weights(sparse_commands: Commands) -> None:
    loaded = load(sparse_commands.model)
    ids = torch.arange(12).reshape(2, 6)
    default = models.set_experts(loaded, None)
    assert default in OFFERED
    with counted_routing(loaded.model) as counter:
        expected, routing = models.prefill(loaded.model, ids).logits, counter.take()
        for name in OFFERED:
            assert models.set_experts(loaded, name) == name
            logits = models.prefill(loaded.model, ids).logits
            torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)
            assert counter.take() == routing
    assert models.set_experts(loaded, None) == default
    assert [sum(each.tokens_per_expert) for each in routing] == [12 * 2] * 2


def test_a_dense_model_has_no_experts(commands: Commands) -> None:
    loaded = load(commands.model)
    assert models.set_experts(loaded, None) == ""
    with pytest.raises(ModelError, match="has no mixture of experts; leave out eager"):
        models.set_experts(loaded, "eager")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        pytest.param("eagr", "did you mean eager", id="a slip"),
        pytest.param("sonicmoe", "is not offered; there is eager", id="one from a hub"),
    ],
)
def test_a_name_that_is_not_offered(name: str, told: str) -> None:
    with pytest.raises(ModelError) as caught:
        experts.check_experts_name(name)
    assert told in str(caught.value)


@pytest.mark.parametrize("value", [pytest.param("", id="empty"), pytest.param(3, id="a number"),
                                   pytest.param("eager,grouped_mm", id="a list")])  # fmt: skip
def test_a_value_that_is_no_name(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^experts_implementation: "):
        RunConfig(experts_implementation=value)


# --- whole runs


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory, sparse_commands: Commands) -> Done:
    """A prefill of 2 x 8 tokens and 3 decode steps, top 2 of 4 experts; not to be changed."""
    cwd = tmp_path_factory.mktemp("routed")
    argv = "--batch-size 2 --decode-steps 3 --dtype float32 --experts-implementation eager"
    return sparse_commands.profile(cwd, *argv.split())


def test_every_token_is_counted_once_per_chosen_expert(routed: Done) -> None:
    assert (routed.code, routed.err) == (0, "")
    for record, tokens in zip(routed.records(), (2 * 8, 2 * 3), strict=True):
        assert [layer["layer"] for layer in record["routing"]] == [0, 1]
        for layer in record["routing"]:
            counts = layer["tokens_per_expert"]
            assert (len(counts), sum(counts)) == (4, tokens * 2)
            assert layer["imbalance"] == pytest.approx(max(counts) / (sum(counts) / 4))
            assert layer["idle_experts"] == counts.count(0)
            assert layer["weights"] == "random"
        assert record["experts_implementation"] == "eager"


def test_counting_is_in_no_trace(routed: Done) -> None:
    """aten::bincount is what counts, and nothing of the model's does."""
    traces = sorted((routed.cwd / "traces/run1/raw").glob("*.kineto.json.gz"))
    assert len(traces) == 4
    assert not any(b"bincount" in gzip.decompress(path.read_bytes()) for path in traces)


def test_routing_is_told_and_kept(routed: Done, sparse_commands: Commands, tmp_path: Path) -> None:
    assert routed.out.count("Routing with random weights: the busiest of 4 experts gets ") == 2
    assert "eager experts" in routed.out
    exported = sparse_commands.export(tmp_path, routed.cwd / "traces/run1")
    assert exported.records() == routed.records()
    saved = json.loads((routed.cwd / "traces/run1/run.json").read_text())["configs"]
    assert [len(config["routing"]) for config in saved] == [2, 2]


@chooses
def test_each_entry_of_a_file_with_its_own_experts(
    sparse_commands: Commands, tmp_path: Path
) -> None:
    entries: list[dict[str, object]] = [{"experts_implementation": name} for name in OFFERED]
    (tmp_path / "c.json").write_text(json.dumps({"configs": [*entries, {"batch_size": 2}]}))
    done = sparse_commands.profile(tmp_path, "--configs", "c.json", "--dtype", "float32")
    assert (done.code, done.err) == (0, "")
    ran = [record["experts_implementation"] for record in done.records()]
    assert ran[:-1] == OFFERED
    assert ran[-1] in OFFERED


def test_a_dense_record_has_no_routing(finished: Done) -> None:
    for record in finished.records():
        assert (record["routing"], record["experts_implementation"]) == ([], None)
    assert "Routing" not in finished.out


@pytest.mark.parametrize(
    ("sparse", "name", "told"),
    [
        pytest.param(True, "eagr", "did you mean eager", id="a slip"),
        pytest.param(False, "eager", "has no mixture of experts; leave it out", id="a dense model"),
    ],
)
def test_experts_that_cannot_be_had_end_it_at_once(
    commands: Commands, sparse_commands: Commands, tmp_path: Path, sparse: bool, name: str,
    told: str,
) -> None:  # fmt: skip
    chosen = sparse_commands if sparse else commands
    done = chosen.profile(tmp_path, "--experts-implementation", name)
    assert (done.code, done.out) == (2, "")
    (line,) = done.errors
    assert line.startswith("error: --experts-implementation: ") or not sparse
    assert told in line


# --- memory: batched_mm copies the weights of its experts for each token


def test_copies_of_batched_mm_by_hand(sparse_commands: Commands) -> None:
    shape = load(sparse_commands.model).facts.shape
    bare, batched = (
        least_needed(shape, RunConfig(1, 20, experts_implementation=name), 2, "sdpa")
        for name in ("eager", "batched_mm")
    )
    # kept 5280; of the experts' part 20 x (64 + 4) x 2, and 20 tokens x top 2 x three 64 x 32 x 2
    assert batched.activation_bytes == 5280 + 2720 + 20 * 2 * 3 * 4096
    assert bare.activation_bytes == 5280 + 2 * 20 * 128 * 2
    assert bare.kv_bytes == batched.kv_bytes


@chooses
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux")
def test_no_more_is_estimated_than_batched_mm_takes(sparse_commands: Commands) -> None:
    code = (
        "import sys, torch\n"
        "from qwen3_profile.measure.model import load as models, memory\n"
        "from qwen3_profile.config import ModelRequest, RunConfig\n"
        "def peak():\n"
        "    status = open('/proc/self/status').read()\n"
        "    return int(status.partition('VmHWM:')[2].split()[0]) * 1024\n"
        "cpu = torch.device('cpu')\n"
        "loaded = models.load_model(ModelRequest(sys.argv[1], 'random'), 'float32', 'sdpa', cpu)\n"
        "models.set_experts(loaded, 'batched_mm')\n"
        "models.prefill(loaded.model, models.make_inputs(256, 1, 8, 0, cpu))\n"
        "open('/proc/self/clear_refs', 'w').write('5')  # the peak starts anew\n"
        "before = peak()\n"
        "models.prefill(loaded.model, models.make_inputs(256, 1, 2048, 0, cpu))\n"
        "config = RunConfig(input_len=2048, experts_implementation='batched_mm')\n"
        "needed = memory.least_needed(loaded.facts.shape, config, 4, 'sdpa')\n"
        "print(peak() - before, needed.total_bytes)\n"
    )
    argv = ["-c", code, str(sparse_commands.model)]
    done = wait(Forked(argv, sparse_commands.model, environment()), sparse_commands.model)
    taken, estimated = map(int, done.out.split())
    assert 0.5 * taken <= estimated <= taken


@chooses
def test_batched_mm_without_room_is_refused_with_what_to_take(
    sparse_commands: Commands, tmp_path: Path
) -> None:
    argv = "--batch-size 1000 --input-len 100000 --experts-implementation batched_mm"
    done = sparse_commands.profile(tmp_path, *argv.split())
    assert done.code == 1
    (line,) = done.errors
    assert "needs at least" in line
    assert line.endswith("take another experts_implementation than batched_mm")
