"""How large the report of a large run is, how long it takes to make, and to open in Chromium.

    python benchmarks/report_page.py [--layers 94] [--configs 5] [--steps 128] [--rounds 5]

The run is made up: a mixture of experts of so many layers, each config with a prefill and a decode
of so many steps, and 75 kernels in every layer of every pass. Per run:

make        seconds of CPU time from the raw traces to the page, and the page's size
open        milliseconds from the navigation to the page with all its pictures, median and worst
choose      the same from the choice of another config
zoom        one step of the time line's zoom, until the next frame
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from qwen3_profile.config import RunConfig
from qwen3_profile.label_parts import required_parts
from qwen3_profile.labels import layer_label
from qwen3_profile.records.load import collect_trace
from qwen3_profile.records.record import TimingRecord, TracedStep
from qwen3_profile.views.report.build import render_page
from qwen3_profile.views.report.section_data import Config, gather
from qwen3_profile.views.report.shown_pass import read_shown_pass

_KERNELS_PER_PART = 5
_NAMES = 40


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for flag, default in (("layers", 94), ("configs", 5), ("steps", 128), ("rounds", 5)):
        parser.add_argument(f"--{flag}", type=int, default=default)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        groups = list(_groups(Path(folder), options))
        begin = time.process_time()
        page = render_page([_config(path, records) for path, records in groups])
        spent = time.process_time() - begin
        file = Path(folder, "report.html")
        file.write_text(page, encoding="utf-8")
        print(f"make    {spent:8.1f} s   {len(page.encode()) / 1e6:.2f} MB, {len(groups)} configs")
        _browse(file, options.rounds)
    return 0


def _config(path: Path, records: Sequence[TimingRecord]) -> Config:
    return gather(records, read_shown_pass(path, records[0].one_by_one()[0]))


def _groups(folder: Path, options: argparse.Namespace) -> Iterator[tuple[Path, list[TimingRecord]]]:
    for index in range(options.configs):
        for phase in ("prefill", "decode"):
            dice = random.Random(index)
            path = folder / f"{index}-{phase}.json"
            path.write_text(json.dumps({"traceEvents": _events(phase, options.layers, dice)}))
            (one,) = collect_trace(path)
            config = RunConfig(batch_size=1 << index, input_len=256, decode_steps=options.steps)
            yield path, [_measured(one, config, run, dice) for run in range(3)]


def _measured(one: TimingRecord, config: RunConfig, run: int, dice: random.Random) -> TimingRecord:
    steps = tuple(dice.randrange(90_000_000, 99_000_000) for _ in range(config.decode_steps))
    found = replace(one, run_index=run, config=config, total_ns=steps[0], profiled_ns=steps[0] * 2)
    if one.phase != "decode":
        return found
    traced = tuple(
        TracedStep(at, 257 + at, steps[at], 2 * steps[at], one.times)
        for at in config.traced_positions
    )
    return replace(found, traced=traced, step_times_ns=steps)


def _events(phase: str, num_layers: int, dice: random.Random) -> list[dict[str, object]]:
    """A labelled pass of which every leaf launches some kernels."""
    events: list[dict[str, object]] = []
    clock, device, launched = 0, 0, 0

    def leaf(name: str) -> None:
        nonlocal clock, device, launched
        begin = clock
        for at in range(_KERNELS_PER_PART):
            launched += 1
            start, clock = clock + dice.randrange(2_000), clock + 9_000
            events.append(_event("cpu_op", f"aten::op{at}", start, clock - start - 500))
            events.append(_event("cuda_runtime", "cudaLaunchKernel", start + 900, 2_500, launched))
            device = max(device, start + 5_000) + dice.randrange(300)
            dur = dice.randrange(1_000, 20_000)
            name_of = f"void kernel_{dice.randrange(_NAMES)}<{'at::native::functor, ' * 8}4>(int)"
            events.append(_event("kernel", name_of, device, dur, launched))
            device += dur
        events.append(_event("cpu_op", name, begin, clock - begin))

    leaf("embed_tokens")
    for layer in range(num_layers):
        outer = clock
        for block in required_parts("layer"):
            inner, name = clock, layer_label(layer, block)
            parts = required_parts(block, "moe")
            for part in parts:
                leaf(f"{name}.{part}")
            if parts:
                events.append(_event("user_annotation", name, inner, clock - inner))
            else:
                leaf(name)
        events.append(_event("user_annotation", layer_label(layer), outer, clock - outer))
    for name in ("norm", "lm_head"):
        leaf(name)
    events.append(_event("user_annotation", phase, 0, clock))
    return events


def _event(
    cat: str, name: str, start_ns: int, dur_ns: int, correlation: int | None = None
) -> dict[str, object]:
    place = (0, 7) if cat == "kernel" else (100, 1)
    args = {} if correlation is None else {"correlation": correlation}
    return {"ph": "X", "cat": cat, "name": name, "pid": place[0], "tid": place[1],
            "ts": start_ns / 1e3, "dur": dur_ns / 1e3, "args": args}  # fmt: skip


def _browse(file: Path, rounds: int) -> None:
    opened, chosen, zoomed = [], [], []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for _ in range(rounds):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(file.as_uri())
            page.wait_for_selector("html[data-ready]")
            opened.append(float(page.get_attribute("html", "data-ready") or 0))
            chosen.append(_timed(page, "choose(1)"))
            zoomed += [_timed(page, "zoom(0.7)") for _ in range(6)]
            page.close()
        browser.close()
    for name, times in (("open", opened), ("choose", chosen), ("zoom", zoomed)):
        print(f"{name:<7} {statistics.median(times):8.0f} ms  at most {max(times):.0f}")


def _timed(page: Page, code: str) -> float:
    """Milliseconds from the call to the frame that shows what it did."""
    return float(
        page.evaluate(
            f"""() => new Promise((done) => {{
              const begin = performance.now();
              {code};
              requestAnimationFrame(() => setTimeout(() => done(performance.now() - begin)));
            }})"""
        )
    )


if __name__ == "__main__":
    sys.exit(main())
