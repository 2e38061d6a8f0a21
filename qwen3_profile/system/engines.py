"""Executors of clusters, each that library's own: they run work on many files where it is told to.

What is run can be pickled, as its results can, and the workers have this package.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from importlib import import_module
from typing import Any

from qwen3_profile.errors import ConfigError, in_words

ENGINES = ("dask", "ray", "mpi")
_PACKAGES = {"dask": "distributed", "ray": "ray", "mpi": "mpi4py.futures"}


@contextlib.contextmanager
def engine_executor(engine: str, address: str | None) -> Iterator[Executor]:
    """The executor of a cluster, which is let go afterwards.

    Args:
        engine: one of `ENGINES`.
        address: of a cluster that is there; None for one of this machine, and with MPI for the
            processes that mpiexec started.

    Raises:
        ConfigError: the library is not installed, or nothing answers at the address.
    """
    try:
        library = import_module(_PACKAGES[engine])
    except ImportError as error:
        do = f"pip install 'qwen3_profile[{engine}]'"
        raise ConfigError(f"--engine {engine}", "is not installed", do) from error
    opened = {"dask": _dask, "ray": _ray, "mpi": _mpi}[engine](library, address)
    try:
        executor = opened.__enter__()
    except Exception as error:  # of its own kinds
        where = f"--engine-address {address}" if address else f"--engine {engine}"
        raise ConfigError(where, f"cannot be used: {in_words(error)}") from error
    try:
        yield executor
    finally:
        opened.__exit__(None, None, None)


@contextlib.contextmanager
def _dask(distributed: Any, address: str | None) -> Iterator[Executor]:
    local = {} if address else {"threads_per_worker": 1, "dashboard_address": None}
    with distributed.Client(address, **local) as client, client.get_executor() as executor:
        yield executor


@contextlib.contextmanager
def _mpi(futures: Any, address: str | None) -> Iterator[Executor]:
    if address:
        raise ValueError(
            "MPI has no address; start this under mpiexec -n N python -m mpi4py.futures"
        )
    with futures.MPIPoolExecutor() as executor:
        yield executor


@contextlib.contextmanager
def _ray(ray: Any, address: str | None) -> Iterator[Executor]:
    ray.init(address=address, log_to_driver=False, configure_logging=False)
    try:
        yield _RayExecutor(ray)
    finally:
        ray.shutdown()


class _RayExecutor(Executor):
    """Ray has no executor of its own, but its references are futures."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        found: Future[Any] = self._ray.remote(_call).remote(fn, *args, **kwargs).future()
        return found


def _call(fn: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Ray takes functions alone, and not whatever can be called."""
    return fn(*args, **kwargs)
