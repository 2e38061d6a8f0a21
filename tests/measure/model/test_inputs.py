"""Token ids drawn, drawn in random lengths, or of prompts; and what a mask changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from make.commands import Commands, Done, _call
from tokenizers import Tokenizer, models, pre_tokenizers

from qwen3_profile.__main__ import main
from qwen3_profile.cli.config_file import read_prompts
from qwen3_profile.cli.run_options import parse_arguments
from qwen3_profile.config import ModelRequest, RunConfig
from qwen3_profile.errors import EXIT_BAD_INPUT, ConfigError, ModelError
from qwen3_profile.measure.executions.eager import Generation
from qwen3_profile.measure.model import hub
from qwen3_profile.measure.model.inputs import Inputs, config_inputs
from qwen3_profile.measure.model.load import LoadedModel, load_model, make_inputs
from qwen3_profile.measure.model.prompts import encode_prompts

CPU = torch.device("cpu")
RAGGED = RunConfig(4, 9, "float32", inputs="ragged")
WORDS = {"the": 1, "quick": 2, "brown": 3, "fox": 4, "?": 0}


def drawn(config: RunConfig, seed: int = 0) -> Inputs:
    return config_inputs(config, 250, seed, CPU)


@pytest.fixture(scope="module")
def model_with_tokenizer(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    shutil.copy(commands.model / "config.json", folder)
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    # What a published file may ask for, and a measurement must not do.
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=7)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def loaded(commands: Commands) -> LoadedModel:
    request = ModelRequest(str(commands.model), "random")
    return load_model(request, "float32", None, CPU)


# --- what is drawn ------------------------------------------------------------------------------


def test_random_inputs_are_full_and_have_no_mask() -> None:
    found = drawn(RunConfig(2, 5))
    assert torch.equal(found.ids, make_inputs(250, 2, 5, 0, CPU))
    assert (found.mask, found.lengths) == (None, (5, 5))


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_ragged_inputs_are_padded_on_the_left(seed: int) -> None:
    found = drawn(RAGGED, seed)
    full = make_inputs(250, 4, 9, seed, CPU)
    assert found.mask is not None
    assert max(found.lengths) == 9
    assert min(found.lengths) >= 1
    for row, mask, same, length in zip(found.ids, found.mask, full, found.lengths, strict=True):
        assert mask.tolist() == [0] * (9 - length) + [1] * length
        assert torch.equal(row[9 - length :], same[9 - length :])


def test_lengths_follow_the_seed() -> None:
    assert drawn(RAGGED).lengths == drawn(RAGGED).lengths
    assert len({drawn(RAGGED, seed).lengths for seed in range(5)}) > 1


@pytest.mark.parametrize(
    ("prompts", "ids", "mask"),
    [
        pytest.param(
            [[5, 6, 7], [8]], [[5, 6, 7], [0, 0, 8]], [[1, 1, 1], [0, 0, 1]], id="two lengths"
        ),
        pytest.param([[5, 6], [8, 9]], [[5, 6], [8, 9]], None, id="one length needs no mask"),
    ],
)
def test_prompts_are_padded_to_the_longest(
    prompts: list[list[int]], ids: list[list[int]], mask: list[list[int]] | None
) -> None:
    found = config_inputs(RunConfig(inputs="prompt"), 250, 0, CPU, prompts)
    assert found.ids.tolist() == ids
    assert (None if found.mask is None else found.mask.tolist()) == mask
    assert found.lengths == tuple(map(len, prompts))


def test_a_token_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(ModelError, match="has token 250, and the model's vocabulary ends at 249"):
        config_inputs(RunConfig(inputs="prompt"), 250, 0, CPU, [[3], [250]])


# --- what a mask changes ------------------------------------------------------------------------


def greedy(generation: Generation, steps: int) -> list[list[int]]:
    generation.prefill()
    chosen = [generation.next_ids]
    for _ in range(steps):
        generation.decode()
        chosen.append(generation.next_ids)
    return torch.cat([ids for ids in chosen if ids is not None], dim=1).tolist()


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("seed", [0, 1])
def test_tokens_are_those_that_generate_chooses(loaded: LoadedModel, cache: str, seed: int) -> None:
    found = drawn(RAGGED, seed)
    assert found.mask is not None
    ours = greedy(Generation(loaded.model, found.ids, 5, cache, mask=found.mask), 5)
    theirs = loaded.model.generate(
        found.ids, attention_mask=found.mask, max_new_tokens=6, min_new_tokens=6, do_sample=False
    )
    assert ours == theirs[:, 9:].tolist()


def test_mask_and_positions_grow_with_each_step(loaded: LoadedModel) -> None:
    seen: list[dict[str, Any]] = []
    hook = loaded.model.register_forward_pre_hook(
        lambda _, __, given: seen.append(given), with_kwargs=True
    )
    mask = torch.tensor([[0, 0, 1], [1, 1, 1]])
    try:
        greedy(Generation(loaded.model, torch.tensor([[0, 0, 7], [4, 5, 6]]), 2, mask=mask), 2)
    finally:
        hook.remove()
    assert [given["attention_mask"].tolist() for given in seen] == [
        [[0, 0, 1], [1, 1, 1]], [[0, 0, 1, 1], [1, 1, 1, 1]], [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]],
    ]  # fmt: skip
    assert [given["position_ids"].tolist() for given in seen] == [
        [[0, 0, 0], [0, 1, 2]], [[1], [3]], [[2], [4]],
    ]  # fmt: skip


def test_padding_changes_nothing_for_a_sequence(loaded: LoadedModel) -> None:
    found = drawn(RAGGED, 3)
    assert found.mask is not None
    batch = greedy(Generation(loaded.model, found.ids, 4, mask=found.mask), 4)
    for row, tokens, length in zip(found.ids, batch, found.lengths, strict=True):
        alone = Generation(loaded.model, row[9 - length :][None], 4)
        assert greedy(alone, 4) == [tokens]


# --- files --------------------------------------------------------------------------------------


def test_prompts_are_the_lines_with_text(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes("\ufeffthe fox \r\n\r\n  \n\u4f60\u597d\u2028x".encode())
    assert read_prompts(path) == ("the fox", "\u4f60\u597d\u2028x")


def test_prompts_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen3_profile.cli.documents._MOST_CHARACTERS", 1 << 20)
    with pytest.raises(ConfigError, match="/dev/zero: cannot be read: it is longer than 1 MB"):
        read_prompts(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        pytest.param(None, "cannot be read", id="no file"),
        pytest.param(b" \n\n", "holds no prompt; write one prompt a line", id="nothing in it"),
        pytest.param(b"\xff\xfe\x00", "is not text in UTF-8", id="no text"),
    ],
)
def test_a_file_without_prompts_is_one_line(tmp_path: Path, data: bytes | None, told: str) -> None:
    path = tmp_path / "p.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_prompts(path)
    assert str(caught.value).startswith(f"{path}: {told}")


def test_the_models_own_tokenizer_encodes_whole_prompts(model_with_tokenizer: Path) -> None:
    request = ModelRequest(str(model_with_tokenizer), "random")
    found = encode_prompts(request, ["the quick brown", "fox", "cat"])
    assert found == ((1, 2, 3), (4,), (0,))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(None, "has no tokenizer here: there is no tokenizer.json in", id="none"),
        pytest.param("{}", "is no tokenizer that can be read", id="broken"),
    ],
)
def test_a_model_without_a_tokenizer_is_one_line(
    tmp_path: Path, commands: Commands, text: str | None, told: str
) -> None:
    shutil.copy(commands.model / "config.json", tmp_path)
    if text is not None:
        (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ModelError, match=told) as caught:
        encode_prompts(ModelRequest(str(tmp_path), "random"), ["the"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cached", "weights", "why", "told"),
    [
        pytest.param("c/tokenizer.json", "random", "", ("c/tokenizer.json", ""), id="cached"),
        pytest.param(
            None, "random", "", (None, "tokenizer.json is not in the local cache"), id="no network"
        ),
        pytest.param(
            None, "auto", "it sleeps",
            (None, "tokenizer.json is not in the local cache and it sleeps"), id="no hub",
        ),
        pytest.param(
            None, "auto", "",
            (None, "the hub does not give tokenizer.json (OSError)"), id="not on the hub",
        ),
    ],
)  # fmt: skip
def test_where_a_tokenizer_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
    cached: str | None,
    weights: str,
    why: str,
    told: tuple[str | None, str],
) -> None:
    def refuse(*_: object) -> str:
        raise OSError

    monkeypatch.setattr(hub, "_cached_file", lambda *_: cached)
    monkeypatch.setattr(hub, "_offline", lambda: False)
    monkeypatch.setattr(hub, "_why_hub_fails", lambda _: why)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    path, reason = hub.find_file("a/b", "tokenizer.json", ask_hub=weights != "random")
    assert (None if path is None else str(path), reason) == told


def test_a_prompt_without_a_token_is_refused(model_with_tokenizer: Path) -> None:
    # An empty text stands for one that the tokenizer drops whole.
    with pytest.raises(ModelError, match="prompt 2 has no token"):
        encode_prompts(ModelRequest(str(model_with_tokenizer), "random"), ["the", ""])


# --- from the flags to the record ---------------------------------------------------------------


def described(done: Done) -> list[tuple[Any, ...]]:
    assert done.code == 0, done.err
    keys = ("phase", "batch_size", "input_len", "inputs", "tokens")
    return [tuple(record[key] for key in keys) for record in done.records()]


def test_ragged_reaches_record_table_and_export(tmp_path: Path, commands: Commands) -> None:
    done = commands.profile(tmp_path, "--batch-size", 4, "--ragged", "--decode-steps", 2)
    lengths = list(drawn(RunConfig(4, 8, inputs="ragged")).lengths)
    tokens = {"real": sum(lengths), "padded": 32 - sum(lengths), "lengths": lengths}
    told = [(phase, 4, 8, "ragged", tokens) for phase in ("prefill", "decode")]
    assert described(done) == told
    assert f"batch 4 x 8 tokens ({sum(lengths)} real, the rest padding)" in done.out
    again = commands.export(tmp_path, "traces/run1", "--output-dir", "again")
    assert again.records("again/timing_records.json") == done.records()


def test_prompts_decide_batch_size_and_length(
    tmp_path: Path, commands: Commands, model_with_tokenizer: Path
) -> None:
    (tmp_path / "p.txt").write_text("the quick brown fox\nfox\n")
    argv = ("--model-name", model_with_tokenizer, "--weights", "random", "--device", "cpu")
    rest = ("--num-runs", 1, "--decode-steps", 1, "--prompt", "p.txt", "--dtype", "bfloat16")
    done = _call(main, tmp_path, [str(word) for word in (*argv, *rest)])
    tokens = {"real": 5, "padded": 3, "lengths": [4, 1]}
    assert described(done) == [(phase, 2, 4, "prompt", tokens) for phase in ("prefill", "decode")]
    run = json.loads((tmp_path / "traces/run1/run.json").read_text())
    assert [config["worker"] for config in run["configs"]] == [
        f"bs2_len4_bfloat16_prompt_{phase}" for phase in ("prefill", "decode")
    ]


@pytest.mark.parametrize(
    ("argv", "configs", "told"),
    [
        pytest.param("--batch-size 1", None, "--batch-size: is decided by", id="batch size"),
        pytest.param("--input-len=4", None, "--input-len: is decided by", id="length"),
        pytest.param("--ragged", None, "--ragged: is decided by", id="ragged"),
        pytest.param(
            "--configs c.json", [{"dtype": "float32"}, {"input_len": 4}],
            "c.json: configs[1].input_len: is decided by the file of --prompt", id="an entry",
        ),
    ],
)  # fmt: skip
def test_what_a_prompt_decides_is_not_said_twice(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argv: str,
    configs: list[dict[str, Any]] | None,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_text("the fox\n")
    if configs is not None:
        Path("c.json").write_text(json.dumps({"configs": configs}))
    with pytest.raises(ConfigError) as caught:
        parse_arguments(["--prompt", "p.txt", *argv.split()])
    assert str(caught.value).startswith(told)
    assert caught.value.exit_code == EXIT_BAD_INPUT


def test_an_entry_cannot_ask_for_prompts_that_nobody_gave(
    tmp_path: Path, commands: Commands
) -> None:
    (tmp_path / "c.json").write_text('{"configs": [{"inputs": "prompt"}]}')
    done = commands.profile(tmp_path, "--configs", "c.json")
    assert done.code == EXIT_BAD_INPUT
    (line,) = done.errors
    assert line.startswith("error: c.json: configs[0].inputs: is prompt, and there is none")
