"""The event files of TensorBoard's own tabs, which show with no plugin and no network.

All lie in the folder of the run, so that TensorBoard lists one run for each invocation: of each
config its curves over the layers and its page as text, under tags with the config's name, and of
all of them the totals next to the settings, by which the HParams tab compares runs.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
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

_FILE_VERSION = "brain.Event:2"


def layer_tag(worker: str, block: str, kind: str) -> str:
    """The tag of a curve; TensorBoard groups charts by what stands before the first slash.

    Args:
        block: "attn" or "ffn"; kind: "cpu" or "cuda".
    """
    return f"layer_time_ms {worker}/{block}_{kind}"


def text_tag(worker: str) -> str:
    return f"tables/{worker}"


def write_config(
    run_dir: Path, worker: str, layers: Sequence[LayerBlocks], report: str, *, time_ns: int
) -> Path:
    """Writes the event file of one config into `run_dir`, and returns its path.

    Args:
        worker: the config's name.
        layers: the times of each layer, in order; the curves' steps are the layers' indices.
        report: Markdown for the Text tab.
        time_ns: when the config was measured, since the epoch.

    Raises:
        OutputError: it could not be written.
    """
    return _write(run_dir, [_text(worker, report), *_curves(worker, layers)], time_ns)


def write_session(run_dir: Path, session: Session, *, time_ns: int) -> Path:
    """Writes the event file of the settings and totals of a whole run, for the HParams tab.

    Raises:
        OutputError: it could not be written.
    """
    summaries = (*session_summaries(session), measure_summary(session))
    return _write(run_dir, [Event(summary=each) for each in summaries], time_ns)


def _write(run_dir: Path, events: Iterable[Event], time_ns: int) -> Path:
    # TensorBoard reads the files of a folder in the order of their names, and none twice.
    path = run_dir / f"events.out.tfevents.{time_ns}.qwen3_profile"
    make_folder(run_dir)
    write_atomic(path, _records(events, time_ns / 1e9))
    return path


def _curves(worker: str, layers: Sequence[LayerBlocks]) -> Iterator[Event]:
    """One event a layer, with a point of each curve; none of a device that did nothing."""
    kinds = ["cpu"]
    if any(max(layer.mixer.device_ns, layer.ffn.device_ns) > 0 for layer in layers):
        kinds.append("cuda")
    for step, layer in enumerate(layers):
        values = [
            Summary.Value(
                tag=layer_tag(worker, block, kind),
                simple_value=(times.cpu_ns if kind == "cpu" else times.device_ns) / 1e6,
            )
            for block, times in (("attn", layer.mixer), ("ffn", layer.ffn))
            for kind in kinds
        ]
        yield Event(step=step, summary=Summary(value=values))


def _text(worker: str, markdown: str) -> Event:
    tensor = TensorProto(
        dtype=DT_STRING,
        string_val=[markdown.encode()],
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
    )
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    value = Summary.Value(tag=text_tag(worker), metadata=metadata, tensor=tensor)
    return Event(summary=Summary(value=[value]))


def _records(events: Iterable[Event], seconds: float) -> bytes:
    """The framed bytes of an event file: its version first, then the events."""
    file = io.BytesIO()
    writer = RecordWriter(file)
    first = Event(wall_time=seconds, file_version=_FILE_VERSION)
    for event in (first, *events):
        event.wall_time = seconds
        writer.write(event.SerializeToString())
    return file.getvalue()
