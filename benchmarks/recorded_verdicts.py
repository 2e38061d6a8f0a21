"""Verdicts on passes that were recorded on GPUs, whose answer is known beforehand.

    python benchmarks/recorded_verdicts.py [FOLDER]

Of the run in traces/h200, which counted its bytes, with the ceilings of an H200 in
benchmarks/results; of the replays in benchmarks/results/three_ways_h100.txt; and of the traces in
FOLDER, recorded on an H100 for this project, with `truth.json` beside them, which has the bare
wall-clock. An H100 multiplies as fast as an H200, and its memory is taken to reach the same share
of its data sheet's 3350 GB/s.

A lone trace tells no bytes: they follow from the sizes of the model, part by part. The first table
holds these formulas against what the tool counted in traces/h200.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from qwen3_profile import labels
from qwen3_profile.analysis.explain import explain
from qwen3_profile.analysis.roofline import roof_of
from qwen3_profile.measure.model.published_shapes import PUBLISHED
from qwen3_profile.records.flops import PassSize
from qwen3_profile.records.load import load
from qwen3_profile.records.pass_flops import pass_flops
from qwen3_profile.records.record import TimingRecord
from qwen3_profile.run_folder.bytes_moved import Moved, Traffic
from qwen3_profile.run_folder.ceilings import Ceilings, ProductRate
from qwen3_profile.run_folder.model_shape import Shape
from qwen3_profile.views.terminal.cells import wrap

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# GB/s of the makers' data sheets.
_H200_SHEET, _H100_SHEET = 4800.0, 3350.0
_BF16, _FP32, _INT64 = 2, 4, 8
_NAMED = 4
# As the tool's own rules have them: a part near its roof, and by how much a cause has to lead.
_NEAR, _MARGIN = 0.6, 0.1
# In the last rows of a table: at work, idle, launch calls, bare, ratio.
_WHOLE_REPLAY = r"^  cuda_graph +([\d.]+) +[\d.]+ +[\d.]+ +([\d.]+) +0"


@dataclass(frozen=True)
class Case:
    """A trace, what ran in it, and the verdict that it must get."""

    file: str
    model: str
    phase: str
    batch: int
    length: int
    expected: str
    layers: int = 0


CASES = (
    Case("qwen3-0.6b_decode_b1_ctx128", "Qwen/Qwen3-0.6B", "decode", 1, 128, "launch-bound"),
    Case("qwen3-0.6b_prefill_b8_l2048", "Qwen/Qwen3-0.6B", "prefill", 8, 2048, "memory-bound"),
    Case("qwen3-8b_decode_b8_ctx512", "Qwen/Qwen3-8B", "decode", 8, 512, "launch-bound"),
    Case("qwen3-8b_prefill_b1_l512", "Qwen/Qwen3-8B", "prefill", 1, 512, "launch-bound"),
    Case("qwen3-30b-a3b_2layers_decode_b4_ctx64", "Qwen/Qwen3-30B-A3B", "decode", 4, 64,
         "launch-bound", 2),
    Case("qwen3-30b-a3b_2layers_prefill_b2_l256", "Qwen/Qwen3-30B-A3B", "prefill", 2, 256,
         "launch-bound", 2),
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    folders = sys.argv[1:] if argv is None else argv
    h200 = measured_ceilings(RESULTS / "ceilings_h200.txt")
    h100 = _scaled(h200, _H100_SHEET / _H200_SHEET)
    for name, each in (("H200, measured", h200), ("H100, taken from it", h100)):
        print(
            f"{name}: {each.flops_per_s / 1e12:.1f} TFLOP/s, {each.bytes_per_s / 1e9:.0f} GB/s, "
            f"{each.launch_ns / 1e3:.2f} us for the shortest kernel"
        )
    run = load(ROOT / "traces" / "h200")
    print(f"\n{_formulas(run.groups)}")
    for group in run.groups:
        _tell(f"0.6B {group[0].phase}, batch 1, H200", "launch-bound", group, h200)
    print(f"\n{_replayed(h100)}")
    for folder in folders:
        truth = json.loads(Path(folder, "truth.json").read_text(encoding="utf-8"))["traces"]
        for case in CASES:
            group = load(Path(folder, f"{case.file}.json.gz")).groups[0]
            bare_ns = 1e6 * _middle(truth[case.file]["wall_ms_by_arm"]["bare"])
            told = [_with_sizes(record, case, bare_ns) for record in group]
            _tell(f"{case.file}, H100", case.expected, told, h100)
    return 0


def measured_ceilings(path: Path) -> Ceilings:
    """Those of the table that `verdicts.py` printed."""
    text = path.read_text(encoding="utf-8")
    products = tuple(
        ProductRate(int(rows), int(into), int(out), float(rate) * 1e12)
        for rows, into, out, rate in re.findall(
            r"^(\d+) x (\d+) x (\d+), TFLOP/s +([\d.]+)", text, re.MULTILINE
        )
    )
    copy, total = (float(re.findall(rf"^{w}, GB/s +([\d.]+)", text, re.M)[0]) for w in _MEMORY)
    launch = float(re.findall(r"^shortest kernel: ([\d.]+) us", text, re.MULTILINE)[0])
    return Ceilings(
        "H200", "", "", "bfloat16", "2026-11-29T00:00:00+00:00", products, copy * 1e9, total * 1e9,
        launch * 1e3,
    )  # fmt: skip


_MEMORY = ("copy", "sum")


def _scaled(each: Ceilings, share: float) -> Ceilings:
    copy, read = each.copy_bytes_per_s * share, each.read_bytes_per_s * share
    return replace(each, device="H100", copy_bytes_per_s=copy, read_bytes_per_s=read)


def _tell(name: str, expected: str, group: Sequence[TimingRecord], ceilings: Ceilings) -> None:
    """The verdict on the phase, and those on the parts of the most time."""
    known = [replace(one, facts=replace(one.facts, ceilings=ceilings)) for one in group]
    found = explain(known)
    print(f"\n{name}: expected {expected}, found {found.whole.kind}")
    print(wrap(found.claims[0].sentence))
    for claim in found.claims[1 : 1 + _NAMED]:
        print(wrap(f"- {claim.sentence}"))


def _middle(walls: object) -> float:
    if isinstance(walls, dict):
        return float(walls.get("median", walls.get("median_ms")))
    return float(median(walls)) if isinstance(walls, list) else float(walls)  # type: ignore


def _with_sizes(record: TimingRecord, case: Case, bare_ns: float) -> TimingRecord:
    """The record with its bare wall-clock, and what each of its passes computes and moves."""
    shape = PUBLISHED[case.model]
    if case.layers:
        shape = replace(shape, num_hidden_layers=case.layers)
    present = {part.name for part in record.times.forward.each()}
    is_decode = case.phase == "decode"
    tokens = 1 if is_decode else case.length
    context = case.length + 1
    pairs = case.batch * (context if is_decode else case.length * (case.length + 1) // 2)
    size = PassSize(case.batch, tokens, pairs, case.batch, is_decode=is_decode)
    keys = context if is_decode else case.length
    moved = moved_by_label(shape, case.batch, tokens, keys, present)
    steps = record.steps
    return replace(
        record,
        total_ns=bare_ns,
        times=replace(record.times, traffic=Traffic(moved)),
        flops=pass_flops(shape, size, present, trains=False) if steps == 1 else None,
    )


def moved_by_label(
    shape: Shape, batch: int, tokens: int, keys: int, present: set[str]
) -> dict[str, Moved]:
    """Bytes of each label in a pass of bfloat16 whose cache grows by concatenation.

    Args:
        tokens, keys: of each sequence, how many go through the layers and how many attention sees.
    """
    found = {}
    for label in present:
        part = labels.part_of(label).rpartition(".")[2]
        count = _bytes(part, shape, batch, tokens, keys)
        if count is not None:
            found[label] = Moved(1, count)
    return found


def _bytes(part: str, shape: Shape, batch: int, tokens: int, keys: int) -> int | None:
    """Each operand of each operator once, as transformers writes them; None of other parts."""
    n, wide, head = batch * tokens, shape.hidden_size, shape.head_dim
    q, kv = shape.num_attention_heads * head, shape.num_key_value_heads * head
    experts = shape.experts
    linears = {
        "q_proj": (wide, q), "k_proj": (wide, kv), "v_proj": (wide, kv), "o_proj": (q, wide),
        "gate_proj": (wide, shape.intermediate_size), "up_proj": (wide, shape.intermediate_size),
        "down_proj": (shape.intermediate_size, wide),
    }  # fmt: skip
    if part in linears:
        return _linear(n, *linears[part])
    norms = {
        "input_layernorm": (n, wide), "post_attention_layernorm": (n, wide), "norm": (n, wide),
        "q_norm": (n * shape.num_attention_heads, head),
        "k_norm": (n * shape.num_key_value_heads, head),
    }  # fmt: skip
    if part in norms:
        # Eight kernels, some of them in float32.
        rows, width = norms[part]
        return 36 * rows * width + 24 * rows + 2 * width
    if part == "experts" and experts is not None:
        per, count = experts.num_experts_per_tok, experts.num_experts
        hit = count * (1 - (1 - per / count) ** n)
        inner = experts.moe_intermediate_size
        return round(_BF16 * (3 * wide * inner * hit + n * per * (2 * wide + 6 * inner)))
    is_decode = tokens == 1
    others = {
        "rope": _BF16 * (10 * n * (q + kv) + 4 * tokens * head),
        "kv_cache": _BF16 * 4 * kv * (batch * keys if is_decode else n),
        "attn_forward": _BF16 * (2 * n * q + 2 * batch * keys * kv)
        + _FP32 * n * shape.num_attention_heads,
        "act_fn": _BF16 * 2 * n * shape.intermediate_size,
        "act_mul": _BF16 * 3 * n * shape.intermediate_size,
        "residual_attn": _BF16 * 3 * n * wide,
        "residual_ffn": _BF16 * 3 * n * wide,
        "embed_tokens": _INT64 * n + _BF16 * 2 * n * wide,
        "lm_head": _linear(batch, wide, shape.vocab_size),
    }
    return others.get(part)


def _linear(rows: int, into: int, out: int) -> int:
    return _BF16 * (into * out + rows * into + rows * out)


def _formulas(groups: Sequence[Sequence[TimingRecord]]) -> str:
    """What the formulas say of the run whose bytes were counted, in bytes of all layers."""
    lines = ["bytes by formula over bytes counted, traces/h200"]
    for group in groups:
        record = group[0]
        assert record.config is not None
        assert record.times.traffic is not None
        counted = record.times.traffic.labels
        is_decode = record.phase == "decode"
        position = record.traced[0].position if is_decode else 0
        tokens = 1 if is_decode else record.config.input_len
        keys = record.config.input_len + (position + 1 if is_decode else 0)
        shape = PUBLISHED["Qwen/Qwen3-0.6B"]
        made = moved_by_label(shape, record.config.batch_size, tokens, keys, set(counted))
        sums: dict[str, list[int]] = {}
        for label, moved in made.items():
            part = labels.part_of(label).rpartition(".")[2]
            both = sums.setdefault(part, [0, 0])
            both[0] += moved.bytes or 0
            both[1] += counted[label].bytes or 0
        told = [f"{name} {mine / theirs:.3f}" for name, (mine, theirs) in sums.items() if theirs]
        lines.append(wrap(f"{record.phase}: {', '.join(sorted(told))}"))
    return "\n".join(lines)


def _replayed(ceilings: Ceilings) -> str:
    """A decode step as a CUDA graph, of the table of three executions on an H100."""
    text = (RESULTS / "three_ways_h100.txt").read_text(encoding="utf-8")
    lines = ["decode, batch 1, as a CUDA graph, H100 (three_ways_h100.txt)"]
    for model, table in zip(("0.6B", "8B"), _decode_tables(text), strict=True):
        (row,) = re.findall(_WHOLE_REPLAY, table, re.MULTILINE)
        busy, bare = map(float, row)
        near = floor = all_floors = 0.0
        kernels = 0
        for ms, count, mega in _graph_parts(table):
            roof = roof_of(round(ms * 1e6), None, round(mega * 1e6), ceilings)
            all_floors += roof.floor_ns / 1e6
            kernels += count
            if (roof.share or 0) >= _NEAR:
                near += ms
                floor += roof.floor_ns / 1e6
        split = {"memory-bound": near, "short kernels, or undecided": busy - near,
                 "launch-bound": bare - busy}  # fmt: skip
        first, second = sorted(split.values())[:0:-1]
        leads = first - second >= _MARGIN * bare
        verdict = max(split, key=split.__getitem__) if leads else "undecided"
        lines.append(
            f"{model}: {verdict}: of {bare:.3f} ms the GPU is busy for {busy:.3f}, in {kernels} "
            f"kernels of {1e3 * busy / kernels:.1f} us each; parts at 60 % of the memory's ceiling "
            f"and more take {near:.3f}, at their floors {floor:.3f}, and all parts at their floors "
            f"{all_floors:.3f}"
        )
    return "\n".join(map(wrap, lines))


def _decode_tables(text: str) -> list[str]:
    return [each for each in text.split("executions compared, ") if each.startswith("decode")]


def _graph_parts(table: str) -> Iterator[tuple[float, int, float]]:
    """(ms, kernels, MB) of each row of the replays; of parts that move nothing none."""
    for line in table.partition("---")[0].splitlines()[2:]:
        words = line[25:].split()
        if words[:1] == ["cuda_graph"] and len(words) >= 5 and re.fullmatch(r"[\d.]+", words[4]):
            yield float(words[1]), int(words[3]), float(words[4])


if __name__ == "__main__":
    sys.exit(main())
