"""A site that is served while a test asks for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from qwen3_profile.views.serve.server import ViewServer
from qwen3_profile.views.serve.site import Site


@contextmanager
def serving(site: Site) -> Iterator[ViewServer]:
    with ViewServer(site) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
