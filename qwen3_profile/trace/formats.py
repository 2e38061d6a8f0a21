"""Files that are given for traces and are none: their format by its name, and what to do.

A format is told by how its file begins; where that says nothing, by the file's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from qwen3_profile.errors import OtherFormatError

# The header of another format may be as long; that of Kineto is shorter.
JSON_HEAD_BYTES = 1 << 16

_RECORD = "record the run with torch.profiler and give the file of export_chrome_trace"


@dataclass(frozen=True, slots=True)
class _Format:
    """One format of other programs.

    what: what the file is, behind its name in a line. do: what to do about it.
    begins: how it begins. holds, name: patterns of what stands in its head, and of its file's name.
    """

    what: str
    do: str
    begins: bytes = b""
    holds: bytes = b""
    name: str = ""

    def fits(self, path: Path, head: bytes) -> bool:
        # Compiled when it is asked for: almost nobody does.
        by_begin = bool(self.begins) and head.startswith(self.begins)
        by_content = bool(self.holds) and re.search(self.holds, head, re.DOTALL) is not None
        by_name = bool(self.name) and re.search(self.name, path.name, re.IGNORECASE) is not None
        return by_begin or by_content or by_name


def _ends(*suffixes: str) -> str:
    return rf"\.({'|'.join(suffixes)})$"


_UNPACK = "unpack it and give the trace that is in it"
_FILES = (
    _Format("is a zip archive", f"{_UNPACK}: unzip FILE", b"PK\x03\x04"),
    _Format("is an empty zip archive", _RECORD, b"PK\x05\x06"),
    _Format("is a 7z archive", f"{_UNPACK}: 7z x FILE", b"7z\xbc\xaf\x27\x1c"),
    _Format("is a RAR archive", f"{_UNPACK}: unrar x FILE", b"Rar!"),
    _Format("is packed with lz4", "unpack it first: lz4 -d FILE", b"\x04\x22\x4d\x18"),
    _Format("is packed with compress", "unpack it first: uncompress FILE", b"\x1f\x9d"),
    _Format("is a tar archive", f"{_UNPACK}: tar -xf FILE", holds=rb"\A.{257}ustar"),
    _Format(
        "is a report of Nsight Systems or Nsight Compute",
        f"open it there, or {_RECORD}",
        name=_ends("nsys-rep", "qdrep", "qdstrm", "ncu-rep"),
    ),
    _Format(
        "is an SQLite database, as nsys export and rocprofv3 (rocpd) write them",
        _RECORD,
        b"SQLite format 3\0",
    ),
    _Format(
        "is an event file of TensorBoard",
        "give the trace beside it (*.pt.trace.json), or " + _RECORD,
        holds=rb"\A.{0,40}brain\.Event:",
        name="tfevents",
    ),
    _Format(
        "is an XPlane of JAX or TensorFlow (xplane.pb)",
        f"open it in TensorBoard or XProf; of a PyTorch program {_RECORD}",
        holds=rb"\A[^\s{\[].{0,40}/(host|device):",
        name=_ends(r"xplane\.pb"),
    ),
    _Format(
        "is a pickle, as torch.cuda.memory._dump_snapshot writes snapshots of memory",
        f"open it at pytorch.org/memory_viz; for times {_RECORD}",
        holds=rb"\A\x80[\x02-\x05]",
    ),
    _Format(
        "is a Perfetto trace in protobuf, as rocprofv3 (.pftrace) and perfetto write them",
        f"open it at ui.perfetto.dev; for this tool {_RECORD}",
        # The first field of its packets is written as a line feed; text has no such others.
        holds=rb"\A\n[^\n]{0,64}[\x00-\x08\x0e-\x1f]",
        name=_ends("pftrace", "perfetto-trace"),
    ),
    _Format(
        "is a Chakra execution trace in protobuf",
        f"an execution trace has no times of a device: {_RECORD}",
        name=_ends("et"),
    ),
    _Format("is a Parquet file", _RECORD, b"PAR1"),
    _Format(
        "is a pointer of Git LFS, not the file",
        "git lfs pull",
        b"version https://git-lfs.github.com",
    ),
    _Format(
        "is a web page",
        "give the trace itself; of a link to it take the raw file",
        holds=rb"\A\s*<(?i:!doctype|html)",
    ),
    _Format("is an XML file", _RECORD, holds=rb"\A\s*<\?xml"),
    _Format(
        "is a CSV table", f"give the trace that it was made of, or {_RECORD}", name=_ends("csv")
    ),
)

_NEAR = (
    _Format(
        "is a trace of Ascend's profiler (torch_npu), which names neither Kineto's device events "
        "nor their launches",
        "open it in MindStudio Insight, or take the times of kernel_details.csv beside it",
        holds=rb'"Ascend Hardware"|"async_npu"|"torch_to_npu"|"HostToDevice"|"Enqueue@',
    ),
    _Format(
        "is a trace of the legacy autograd profiler (torch.autograd.profiler), which has no "
        "launches and no streams",
        _RECORD,
        holds=rb'"pid"\s*:\s*"(CPU|CUDA|XPU|PrivateUse1) functions"',
    ),
)

# Documents without traceEvents.
_DOCUMENTS = (
    _Format(
        "is the output of rocprofv3 (rocprofiler-sdk)",
        f"on ROCm, too, torch.profiler writes what is read here: {_RECORD}",
        holds=rb'"rocprofiler-sdk-tool"',
    ),
    _Format(
        "is a profile of speedscope, as py-spy writes them",
        f"open it at speedscope.app; for times of a device {_RECORD}",
        holds=rb"speedscope\.app/file-format-schema",
    ),
    _Format(
        "is a CPU profile of V8 (Node or Chrome)",
        _RECORD,
        holds=rb'"nodes"\s*:.*"callFrame"\s*:',
    ),
    _Format(
        "is an execution trace (Chakra, or torch.profiler's ExecutionTraceObserver), which has no "
        "times of a device",
        f"give the Kineto trace of the same run, or {_RECORD}",
        holds=rb'"nodes"\s*:\s*\[.*"ctrl_deps"|"schema"\s*:.*"nodes"\s*:\s*\[',
    ),
    _Format(
        "is a profile of Firefox's profiler",
        _RECORD,
        holds=rb'"preprocessedProfileVersion"|profiler\.firefox\.com',
    ),
    _Format(
        "is a snapshot of memory (torch.cuda.memory._snapshot)",
        f"open it at pytorch.org/memory_viz; for times {_RECORD}",
        holds=rb'"segments"\s*:.*"device_traces"\s*:|"device_traces"\s*:.*"segments"\s*:',
    ),
    _Format(
        "is a line of an export of Nsight Systems (nsys export --type json)",
        _RECORD,
        holds=rb'\A\s*\{\s*"(Type|data|CudaEvent|NvtxEvent|nsys_export)"',
    ),
)

# In Chrome's own format, with events of other programs in it.
_EVENTS = (
    *_NEAR,
    _Format(
        "is a trace of Chrome's developer tools, not of torch.profiler",
        _RECORD,
        holds=rb'"devtools\.timeline|"disabled-by-default-devtools|"blink\.user_timing',
    ),
    _Format(
        "is a trace of JAX or TensorFlow (XLA)",
        f"open it in TensorBoard or Perfetto; of a PyTorch program {_RECORD}",
        holds=rb'"highres-ticks"|"/(device|host):[A-Z]+',
    ),
    _Format(
        "is a trace of VizTracer", f"for times of a device {_RECORD}",
        holds=rb'"viztracer_metadata"|"FEE"',
    ),
    _Format(
        "is a trace of rocprof (roctracer), not of torch.profiler",
        f"on ROCm, too, torch.profiler writes what is read here: {_RECORD}",
        holds=rb'"(CPU HIP API|HIP API|HSA API|GPU0)"|"BeginNs"',
    ),
)  # fmt: skip


def refuse_other_file(path: Path, head: bytes) -> None:
    """Refuses what is no text of a trace.

    Args:
        head: how the file, unpacked, begins.

    Raises:
        OtherFormatError: it is a file of another program, or an archive.
    """
    _refuse(path, head, _FILES)


def refuse_near_events(path: Path, head: bytes) -> None:
    """Refuses events with categories of Kineto's in which these stand for other things.

    They are lists; of a document, as some tools make of one, less is looked at.

    Raises:
        OtherFormatError: it is such a file.
    """
    _refuse(path, head if head.lstrip()[:1] == b"[" else head[:JSON_HEAD_BYTES], _NEAR)


def refuse_other_document(path: Path, text: bytes) -> None:
    """Refuses JSON that is no trace, if it is known what it is.

    Raises:
        OtherFormatError: it is.
    """
    _refuse(path, text[:JSON_HEAD_BYTES], _DOCUMENTS)


def refuse_other_events(path: Path, head: bytes, categories: tuple[tuple[str, int], ...]) -> None:
    """Refuses events of which none is of Kineto.

    Args:
        head: how the file begins.
        categories: those of its events, and how many there are of each.

    Raises:
        OtherFormatError: always.
    """
    _refuse(path, head[:JSON_HEAD_BYTES], _EVENTS)
    count = sum(number for _, number in categories)
    most = max(categories, key=lambda each: each[1])[0]
    shown = f"of category {most!r}" if most else "without a category"
    raise OtherFormatError(
        str(path), f"holds no event as Kineto writes them: {count} others, most {shown}", _RECORD
    )


def _refuse(path: Path, head: bytes, formats: tuple[_Format, ...]) -> None:
    for each in formats:
        if each.fits(path, head):
            raise OtherFormatError(str(path), each.what, each.do)
