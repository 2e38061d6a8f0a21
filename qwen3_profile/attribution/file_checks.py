"""What of a file was not read, or not as it stands: one function per kind."""

from __future__ import annotations

from collections.abc import Iterator

from qwen3_profile.attribution.attribute import Attribution
from qwen3_profile.attribution.findings import DAMAGE, NOTE, WARNING, Finding, check_log, counted
from qwen3_profile.trace.losses import LossCounts


def check_file(attribution: Attribution) -> Iterator[Finding]:
    """What was cut off, lost, mended or passed over in a file, and what it warns of."""
    for check in (_cut_off, _log, _unread, _odd_header, _unpaired, _lost, _needless):
        yield from check(attribution)


def _cut_off(attribution: Attribution) -> Iterator[Finding]:
    damage = attribution.trace.info.damage
    if damage:
        path = attribution.trace.info.path
        yield Finding(DAMAGE, "cut-off", f"the file {damage}", 1, 0, path)


def _log(attribution: Attribution) -> Iterator[Finding]:
    yield from check_log(attribution.trace.info.messages)


def _unread(attribution: Attribution) -> Iterator[Finding]:
    unread = attribution.trace.info.unread
    if unread:
        count = sum(events for _, events in unread)
        name = unread[0][0]
        message = f"{count} events are of unknown categories and were not read, such as {name!r}"
        yield Finding(WARNING, "unknown-category", message, count, 0, name)


def _odd_header(attribution: Attribution) -> Iterator[Finding]:
    ignored = attribution.trace.info.ignored
    if ignored:
        first = ignored[0]
        what = (
            "field of the header is not of its type"
            if len(ignored) == 1
            else ("fields of the header are not of their types")
        )
        message = f"{len(ignored)} {what}; left out"
        yield Finding(WARNING, "odd-header", f"{message}: {first}", len(ignored), 0, first)


def _lost(attribution: Attribution) -> Iterator[Finding]:
    losses = attribution.trace.info.losses or LossCounts()
    lost, mended = losses.lost, losses.mended
    if not lost.count + mended.count:
        return
    told = [
        f"{counted(loss.count, 'event')} {what}"
        for loss, what in ((lost, "left out, of no use"), (mended, "with a name mended"))
        if loss.count
    ]
    first = (*lost.first, *mended.first)
    message = f"{', '.join(told)}: {'; '.join(first)}"
    yield Finding(DAMAGE, "events-lost", message, lost.count + mended.count, 0, first[0])


def _needless(attribution: Attribution) -> Iterator[Finding]:
    odd = (attribution.trace.info.losses or LossCounts()).needless
    if odd.count:
        message = f"{counted(odd.count, 'event')} odd where nobody needs it: {'; '.join(odd.first)}"
        yield Finding(NOTE, "odd-text", message, odd.count, 0, odd.first[0])


def _unpaired(attribution: Attribution) -> Iterator[Finding]:
    count = attribution.trace.info.unpaired
    if count:
        of_one = "event begins a range that never ends, or ends one that never began (B and E)"
        several = "events begin a range that never ends, or end one that never began (B and E)"
        message = f"{count} {of_one if count == 1 else several}; left out"
        yield Finding(WARNING, "unpaired-events", message, count, 0, attribution.trace.info.path)
