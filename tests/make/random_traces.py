"""Random traces, for laws that hold of every one: ranges, modules, launches and kernels."""

from __future__ import annotations

from hypothesis import strategies as st

from make.kineto import host, kernel, label, step

ATTN = "layer.0.attn"
END = 400


NAMES = (
    "mine", "yours", "prefill", "layer.0", ATTN, f"{ATTN}.q_proj", "nccl:all_reduce",
    "ProfilerStep#3",
)  # fmt: skip


MODULES = ("nn.Module: Block_0", "nn.Module: Linear_1")


@st.composite
def ranges(draw: st.DrawFn, thread: int, start: int, end: int, levels: int) -> list[str]:
    """Labels and modules that contain one another or lie apart."""
    cuts = sorted(draw(st.lists(st.integers(start, end), max_size=6)))
    found: list[str] = []
    for a, b in zip(cuts[::2], cuts[1::2], strict=False):
        if draw(st.booleans()):
            found.append(label(draw(st.sampled_from(NAMES)), a, b, thread))
        else:
            found.append(host("python_function", draw(st.sampled_from(MODULES)), a, b, thread))
        if levels > 1:
            found += draw(ranges(thread, a, b, levels - 1))
    return found


@st.composite
def work(draw: st.DrawFn) -> list[str]:
    """Launches of kernels and graphs from any thread to any stream; some records are lost."""
    found = []
    for number in range(draw(st.integers(0, 12))):
        correlation = 10 * (number + 1)
        thread, start = draw(st.integers(1, 3)), draw(st.integers(0, END))
        end = start + draw(st.integers(0, 20))
        graph = draw(st.booleans())
        if draw(st.integers(0, 4)):
            name = "cudaGraphLaunch" if graph else "cudaLaunchKernel"
            found.append(
                host("cuda_runtime", name, start, end, thread, correlation=correlation)
            )  # fmt: skip
        for node in range(draw(st.integers(0, 3 if graph else 1))):
            begin = draw(st.integers(0, 2 * END))
            stop = begin + draw(st.integers(0, 60))
            place = draw(st.integers(7, 8)), draw(st.integers(0, 1))
            found.append(kernel(correlation, begin, stop, *place, name=f"k{correlation}.{node}"))
    return found


@st.composite
def traces(draw: st.DrawFn) -> list[str]:
    threads = draw(st.integers(0, 3))
    hosts = [each for t in range(1, threads + 1) for each in draw(ranges(t, 0, END, 3))]
    steps = draw(st.sampled_from([[], [step(0, 0, END // 2), step(1, END // 2, END)]]))
    return [*steps, *hosts, *draw(work())]
