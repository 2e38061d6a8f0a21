"""What a pass allocates, among the claims of its explanation."""

from __future__ import annotations

import json
from dataclasses import replace

from make.samples import record

from qwen3_profile.analysis.explain import MEMORY, explain
from qwen3_profile.records.part_memory import LabelMemory, PassMemory
from qwen3_profile.views.terminal.explain import explanation_json, render_explanation

WHOLE = LabelMemory("prefill", 9_000_000, 4_000_000, 1_000_000, 3_000_000, 2_000_000, 0)
SMALL = LabelMemory("layer.0.ffn", 6_000_000, 1_000_000, 0, 1_000_000, 500_000, 0)
LARGE = LabelMemory("layer.1.ffn", 8_000_000, 3_000_000, 0, 3_000_000, 2_000_000, 0)
TAKEN = {"kv_cache": 1_000_000, "workspace": 500_000, "activations": 2_500_000}
PASS = PassMemory(WHOLE, (SMALL, LARGE), TAKEN, 0, 0, 5_000_000, 5_000_000, 9_000_000, 80_000_000)


def test_each_part_has_the_figures_of_the_layer_where_it_is_most() -> None:
    found = explain([replace(record(), memory=PASS)])
    assert [claim.subject for claim in found.memory] == ["prefill", "layer.*.ffn", "would fit"]
    whole, part, fit = (claim.rests_on for claim in found.memory)
    assert (whole["peak_bytes"], whole["weights_bytes"]) == (9_000_000, 5_000_000)
    assert whole["kv_cache_at_peak_bytes"] == 1_000_000
    assert (part["peak_bytes"], part["rise_bytes"]) == (8_000_000, 3_000_000)
    # 4 MB of 2 sequences; beside the 5 MB that were there, 75 of 80 MB are left
    assert (fit["sequences"], fit["each_bytes"]) == (37, 2_000_000)
    assert found.memory[1].sentence.endswith("8.000 MB at the peak, 3.000 MB more than before it.")


def test_text_and_json_have_it() -> None:
    found = explain([replace(record(), memory=PASS)])
    assert "At the peak: weights 5.000 MB, KV cache 1.000 MB" in render_explanation(found)
    claims = json.loads(explanation_json([found]))
    assert [each["subject"] for each in claims if each["verdict"] == MEMORY] == [
        "prefill", "layer.*.ffn", "would fit",
    ]  # fmt: skip


def test_without_a_recording_nothing_is_said_of_it() -> None:
    found = explain([record()])
    assert found.memory == ()
    assert "At the peak" not in render_explanation(found)
