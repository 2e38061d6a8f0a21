"""The document of any text: with an odd header, or of another program's file by its name."""

from __future__ import annotations

from pathlib import Path

from qwen3_profile.errors import DamagedTraceError, TraceError
from qwen3_profile.trace.json_events import NOT_JSON, SIGNS, VERSIONS, Document, decode_document


def decode_any(path: Path, text: bytes, *, is_trace: bool = False) -> Document:
    """As `decode_document`, with fields of the header of any types.

    Raises:
        TraceError: the text is that of another kind of file; of a known one it says which.
        DamagedTraceError: it was a trace, but is cut off or broken.
    """
    try:
        return decode_document(path, text, is_trace=is_trace)
    except DamagedTraceError:
        raise
    except TraceError:
        if not is_trace:
            from qwen3_profile.trace.formats import refuse_other_document

            refuse_other_document(path, text)
        document = _with_odd_header(path, text, is_trace)
        if document is None:
            raise
        return document


def _with_odd_header(path: Path, text: bytes, is_trace: bool) -> Document | None:
    """None where it is not the header that is odd."""
    from qwen3_profile.trace.odd_header import mend_header  # few files have one

    try:
        mended, ignored = mend_header(text, VERSIONS)
    except NOT_JSON:
        return None
    document = decode_document(path, mended, is_trace=is_trace)
    document.ignored = ignored
    return document


def refuse_no_json(path: Path, head: bytes) -> None:
    """Refuses a file that begins as no JSON of a trace does.

    Raises:
        TraceError: it is such a file.
    """
    text = head.lstrip()
    if text and text[:1] not in b"{[" and not any(sign in text for sign in SIGNS):
        what = f"is not a Kineto trace: it begins with {text[:12]!r}"
        raise TraceError(str(path), what, "give a file that torch.profiler wrote")


def refuse_other_program(path: Path, head: bytes) -> None:
    """Refuses a file in whose events the categories of Kineto stand for other things.

    Raises:
        OtherFormatError: it is such a file.
    """
    if head.lstrip()[:1] == b"[" or b"Ascend" in head:
        from qwen3_profile.trace.formats import refuse_near_events

        refuse_near_events(path, head)
