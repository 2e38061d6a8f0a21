"""What TensorBoard's HParams tab compares runs by.

A session is the settings of a run and the measures that belong to it: three summaries without a
value, and a scalar for each measure. TensorBoard has one session for each run that it lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)

from qwen3_profile.analysis.median_pass import is_on_device
from qwen3_profile.records.quantiles import median
from qwen3_profile.records.record import TimingRecord

# Scalars are shown in groups, by what stands before the slash.
TOTALS = "totals/"
_NS_PER_MS = 1e6

Setting = str | float | bool


@dataclass(frozen=True, slots=True)
class Session:
    """settings, measures: (name, value) pairs."""

    settings: tuple[tuple[str, Setting], ...]
    measures: tuple[tuple[str, float], ...]


def session_of(records: Sequence[TimingRecord]) -> Session:
    """What was asked for, and what came of it: medians over the runs.

    Args:
        records: of one config and phase, at least one.
    """
    return Session(tuple(_settings(records[0])), tuple(_measures(records)))


def session_of_all(sessions: Mapping[str, Session]) -> Session:
    """One session of a run of several configs, by their names.

    A setting in which they differ has all of its values; the measures of each bear its name.
    """
    if len(sessions) == 1:
        return next(iter(sessions.values()))
    values: dict[str, dict[Setting, None]] = {}
    for session in sessions.values():
        for name, value in session.settings:
            values.setdefault(name, {})[value] = None
    settings = (
        (name, next(iter(found)) if len(found) == 1 else ", ".join(map(str, found)))
        for name, found in values.items()
    )
    measures = (
        (f"{worker}/{name}", value)
        for worker, session in sessions.items()
        for name, value in session.measures
    )
    return Session(tuple(settings), tuple(measures))


def session_summaries(session: Session) -> list[Summary]:
    """The three that say what is compared, what it was here, and that it came to its end."""
    infos = [
        api_pb2.HParamInfo(name=name, type=_type_of(value)) for name, value in session.settings
    ]
    metrics = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=TOTALS + name), display_name=name)
        for name, _ in session.measures
    ]
    experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics)
    start = SessionStartInfo()
    for name, value in session.settings:
        setattr(start.hparams[name], f"{_kind_of(value)}_value", value)
    end = SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
    return [
        _summary(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment)),
        _summary(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start)),
        _summary(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end)),
    ]


def measure_summary(session: Session) -> Summary:
    """The measures, as scalars."""
    return Summary(
        value=[
            Summary.Value(tag=TOTALS + name, simple_value=value) for name, value in session.measures
        ]
    )


def _settings(record: TimingRecord) -> list[tuple[str, Setting]]:
    config, facts = record.config, record.facts
    found: list[tuple[str, Setting | None]] = [("phase", record.phase)]
    if facts.model is not None:
        found += [
            ("model", facts.model.name),
            ("layers", facts.model.num_layers),
            ("weights", facts.model.weights),
        ]
    if config is not None:
        found += [
            ("batch_size", config.batch_size),
            ("input_len", config.input_len),
            ("dtype", config.dtype),
            ("cache", config.cache),
            ("inputs", config.inputs),
        ]
    found += [
        ("attention", facts.attn_implementation),
        ("experts", facts.experts_implementation),
        ("device", facts.device),
        ("torch", facts.environment.torch if facts.environment else None),
    ]
    return [(name, value) for name, value in found if value not in (None, "")]


def _measures(records: Sequence[TimingRecord]) -> list[tuple[str, float]]:
    """Times are those of one forward pass."""
    bare = [record.total_ns for record in records if record.total_ns is not None]
    ratios = [ratio for record in records if (ratio := record.disturbance) is not None]
    found = []
    if bare:
        found.append(("total_time_ms", median(bare) / _NS_PER_MS))
    if ratios:
        found.append(("disturbance", median(ratios)))
    if is_on_device(records):
        for name, field in (
            ("cuda_total_ms", "device_ns"),
            ("cuda_busy_ms", "busy_ns"),
            ("cuda_gap_ms", "gap_ns"),
            ("unattributed_cuda_ms", "unattributed_ns"),
        ):
            values = (getattr(record.times, field) / record.steps for record in records)
            found.append((name, median(values) / _NS_PER_MS))
    return found


def _kind_of(value: Setting) -> str:
    if isinstance(value, bool):
        return "bool"
    return "string" if isinstance(value, str) else "number"


def _type_of(value: Setting) -> int:
    kinds = {"bool": "BOOL", "string": "STRING", "number": "FLOAT64"}
    return int(api_pb2.DataType.Value(f"DATA_TYPE_{kinds[_kind_of(value)]}"))


def _summary(tag: str, content: HParamsPluginData) -> Summary:
    about: SummaryMetadata = metadata.create_summary_metadata(content)
    return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)])
