"""The event files of TensorBoard's own tabs, which show with no plugin and no network.

Two curves over the layers, one folder for the CPU's times and one for the device's, so that one
chart holds both, the page of the config as text, and the totals next to the settings, by which the
HParams tab compares runs.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter

from qwen3_profile.analysis.layer_times import LayerBlocks
from qwen3_profile.system.files import make_folder, write_atomic
from qwen3_profile.views.tensorboard.hparams import Session, measure_summary, session_summaries

ATTN_TAG = "layer_time_ms/attn"
FFN_TAG = "layer_time_ms/ffn"
REPORT_TAG = "report/text_summary"

_FILE_VERSION = "brain.Event:2"


def write_scalars(
    run_dir: Path,
    layers: Sequence[LayerBlocks],
    report: str,
    session: Session,
    *,
    time_ns: int,
    group: str = "",
) -> tuple[Path, ...]:
    """Writes the event files of one config below `run_dir`, and returns their paths.

    Args:
        layers: the times of each layer, in order; the curves' steps are the layers' indices.
        report: Markdown for the Text tab.
        session: for the HParams tab.
        time_ns: when the config was measured, since the epoch.
        group: a folder for them, where a run has more configs than one.

    Returns:
        The file of the report and the session, and the CPU's; the device's too, unless it took no
        time at all.

    Raises:
        OutputError: one could not be written.
    """
    name = f"events.out.tfevents.{time_ns // 10**9}.qwen3_profile"
    cpu = [(layer.mixer.cpu_ns, layer.ffn.cpu_ns) for layer in layers]
    cuda = [(layer.mixer.device_ns, layer.ffn.device_ns) for layer in layers]
    summaries = (*session_summaries(session), measure_summary(session))
    files = {"": [_text(report), *map(_event, summaries)], "cpu": _curves(cpu)}
    if any(max(times) > 0 for times in cuda):
        files["cuda"] = _curves(cuda)
    paths = []
    for folder, events in files.items():
        path = run_dir / group / folder / name
        make_folder(path.parent)
        write_atomic(path, _records(events, time_ns / 1e9))
        paths.append(path)
    return tuple(paths)


def _curves(times_ns: Iterable[tuple[float, float]]) -> list[Event]:
    """One event a layer, with a point of either curve."""
    return [
        Event(
            step=step,
            summary=Summary(
                value=[
                    Summary.Value(tag=ATTN_TAG, simple_value=attn_ns / 1e6),
                    Summary.Value(tag=FFN_TAG, simple_value=ffn_ns / 1e6),
                ]
            ),
        )
        for step, (attn_ns, ffn_ns) in enumerate(times_ns)
    ]


def _text(markdown: str) -> Event:
    tensor = TensorProto(
        dtype=DT_STRING,
        string_val=[markdown.encode()],
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
    )
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    value = Summary.Value(tag=REPORT_TAG, metadata=metadata, tensor=tensor)
    return Event(summary=Summary(value=[value]))


def _event(summary: Summary) -> Event:
    return Event(summary=summary)


def _records(events: Iterable[Event], seconds: float) -> bytes:
    """The framed bytes of an event file: its version first, then the events."""
    file = io.BytesIO()
    writer = RecordWriter(file)
    first = Event(wall_time=seconds, file_version=_FILE_VERSION)
    for event in (first, *events):
        event.wall_time = seconds
        writer.write(event.SerializeToString())
    return file.getvalue()
