"""A heap that no collection looks through, as far as it is there already."""

from __future__ import annotations

import gc


def freeze_all() -> None:
    """Freezes what there is, and keeps its number until somebody thaws it.

    Commands ask for that number, and to count what torch and transformers are takes 50 ms.
    """
    gc.collect()
    gc.freeze()
    number, count, unfreeze = gc.get_freeze_count(), gc.get_freeze_count, gc.unfreeze

    def thaw() -> None:
        gc.get_freeze_count, gc.unfreeze = count, unfreeze
        unfreeze()

    gc.get_freeze_count, gc.unfreeze = lambda: number, thaw
