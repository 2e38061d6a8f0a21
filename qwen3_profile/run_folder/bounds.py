"""What a value of `run.json` can be: the file is input like any other, and may be anybody's."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

_YEARS_NS = 10**17  # three of them
# Wall-clock of a pass, which no Python makes in a microsecond; a duration that may be none; a
# moment since 1970.
WallNs = Annotated[int, Meta(ge=1000, le=_YEARS_NS)]
SpanNs = Annotated[int, Meta(ge=0, le=_YEARS_NS)]
MomentNs = Annotated[int, Meta(ge=0, lt=1 << 62)]
Index = Annotated[int, Meta(ge=0, lt=1 << 31)]
Layers = Annotated[int, Meta(ge=0, le=10_000)]
# Of a model: its widths, and numbers of what they multiply to.
Size = Annotated[int, Meta(ge=0, lt=1 << 31)]
Step = Annotated[int, Meta(ge=1, lt=1 << 31)]
Amount = Annotated[int, Meta(ge=0, lt=1 << 60)]
Share = Annotated[float, Meta(ge=0)]
# Beyond what any device does in a second, be it operations or bytes; and its clock.
Rate = Annotated[float, Meta(ge=0, le=1e19)]
Mhz = Annotated[int, Meta(ge=0, le=100_000)]
Ranks = Annotated[int, Meta(ge=1, le=1 << 20)]
# A file of the run's folder, by its path from there: neither an absolute one nor one out of it.
FileName = Annotated[str, Meta(pattern=r"^(?![/\\])(?!.*(^|[/\\])\.\.([/\\]|$))[^\0]*$")]
Phase = Literal["prefill", "decode", "train_step"]
Status = Literal["done", "failed", "interrupted"]
