"""Records what the kernels compute that torch.compile makes.

What Inductor is like, by version, is known here and nowhere else.

Nothing of this is public in torch. A pass after all others keeps the nodes of each graph; when a
graph is compiled, Inductor's own map says which nodes each kernel computes, call by call. The
events of the kernels of Inductor's C++ have to be asked for. Caches are off meanwhile: a graph
that comes out of one has not passed here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import torch
from torch import fx

from qwen3_profile.errors import ConfigError
from qwen3_profile.measure.inductor.kernel_bytes import node_bytes
from qwen3_profile.measure.inductor.kernel_parts import Moves, kernel_parts
from qwen3_profile.measure.inductor.module_labels import ModuleLabels
from qwen3_profile.measure.inductor.node_labels import Frame, Node, label_nodes
from qwen3_profile.measure.inductor.schedules import Made, Schedules
from qwen3_profile.run_folder.provenance import CompiledGraph

# From here on Inductor numbers all calls of kernels, those of libraries among them, in their order.
_NEEDED = "2.10"
_KERNEL_MAP = "_inductor_triton_kernel_to_post_grad_node_info"
_END_OF_COMPILE = "dump_inductor_provenance_info"
_LEVEL = "trace.provenance_tracking_level"
# L['self'].model.layers.0, or L['self']._modules['model']._modules['layers']._modules['0']
_OWN = ["L", "self"]
_PATH_WORD = re.compile(r"\w+")
_FRAME = re.compile(r'File "(?P<file>[^"]*)", line (?P<line>\d+), in (?P<function>\S+)')


def check_inductor(device: torch.device) -> None:
    """Refuses a torch whose compiled kernels cannot be told apart, or which cannot compile here.

    Raises:
        ConfigError: it is too old, or too new to be known here, or has no compiler.
    """
    try:
        import torch._inductor.config as config
        from torch._inductor import debug
        from torch._inductor.custom_graph_pass import CustomGraphPass  # noqa: F401
        from torch._inductor.ir import ExternKernel
    except ImportError as error:
        raise _unsupported() from error
    if not (
        hasattr(config.trace, _LEVEL.partition(".")[2])
        and hasattr(debug, _KERNEL_MAP)
        and hasattr(debug, _END_OF_COMPILE)
        and "kernel_name" in inspect.signature(ExternKernel.codegen_comment).parameters
    ):
        raise _unsupported()
    if device.type == "cpu" and not _has_cpp_compiler():
        do = "install g++, or name a compiler in CXX"
        raise ConfigError("--compile", "needs a C++ compiler on a CPU, and there is none", do)
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise ConfigError("--compile", "needs Triton on a GPU, and there is none", "install triton")


def _has_cpp_compiler() -> bool:
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler

        get_cpp_compiler()
    except (ImportError, RuntimeError):
        return False
    return True


def _unsupported() -> ConfigError:
    what = f"needs what torch {_NEEDED} and later have, and this is torch {torch.__version__}"
    return ConfigError("--compile", what, f"install torch {_NEEDED} or a later one")


@dataclass(slots=True)
class _Graph:
    """A compiled graph that is captured as a CUDA graph: as it was compiled, and as it replays."""

    make: Callable[[], Callable[..., Any]]
    replay: Callable[..., Any]


class Compilations:
    """The graphs that were compiled in one `recorded` block.

    schedules: of the kernels of the graph that is being compiled.
    graphs: by compile id; a graph that is compiled again takes the place of the older one.
    count: how many graphs have been compiled, those compiled again too.
    """

    def __init__(self, modules: ModuleLabels, root: str) -> None:
        self._modules = modules
        self._root = root
        self._first_frame: int | None = None
        self._nodes: dict[str, Node] = {}
        self._node_bytes: dict[str, int | None] = {}
        self.schedules = Schedules()
        self.graphs: dict[str, CompiledGraph] = {}
        self.count = 0
        self._one_by_one = False
        self._captured: list[_Graph] = []

    def after_passes(self, graph: fx.Graph) -> None:
        """Keeps the nodes as Inductor compiles them."""
        root = self._frame_root()
        self._nodes = {node.name: self._node(node, root) for node in graph.nodes}
        self._node_bytes = {node.name: node_bytes(node) for node in graph.nodes}

    def compiled(self, calls: Mapping[str, list[str]]) -> None:
        """Gives the kernels of the graph that has just been compiled their parts.

        Args:
            calls: "kernel:number of the call" -> names of its nodes.
        """
        region = str(_compile_id())
        nodes = tuple(self._nodes.values())
        node_labels = label_nodes(nodes, self._modules.labels)
        taken = self.schedules.take()
        made = [taken.get(key, Made()) for key in calls]
        named = [
            (key.rpartition(":")[0], each.nodes or listed)
            for each, (key, listed) in zip(made, calls.items(), strict=True)
        ]
        moves = Moves([each.bytes for each in made], self._node_bytes)
        kernels = kernel_parts(named, nodes, node_labels, moves)
        self.count += 1
        self.graphs[region] = CompiledGraph(region, kernels)

    @contextlib.contextmanager
    def one_by_one(self) -> Iterator[None]:
        """Launches the kernels of graphs that were captured themselves, as if there were none."""
        self._one_by_one = True
        try:
            yield
        finally:
            self._one_by_one = False

    def with_choice(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """Inductor's `cudagraphify`, whose results run as they were compiled in `one_by_one`."""

        def cudagraphify(run: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:
            def again() -> Callable[..., Any]:
                replay: Callable[..., Any] = make(run, *args, **kwargs)
                return replay

            graph = _Graph(again, again())
            self._captured.append(graph)
            return lambda inputs: (run if self._one_by_one else graph.replay)(inputs)

        return cudagraphify

    def capture_anew(self) -> None:
        """Frees all CUDA graphs; each is captured again by its next passes."""
        from torch._inductor.cudagraph_trees import reset_cudagraph_trees

        reset_cudagraph_trees()
        for graph in self._captured:
            graph.replay = graph.make()

    def _node(self, node: fx.Node, root: str | None) -> Node:
        stack = _module_stack(node)
        module = root if node.meta.get("stack_trace") else None
        if stack:
            module = self._path(stack, root)
        return Node(
            name=node.name,
            target=str(node.target) if node.op == "call_function" else node.op,
            module=module,
            frames=_frames(node.meta.get("stack_trace") or ""),
        )

    def _frame_root(self) -> str | None:
        """The module whose forward is compiled: what was asked for, or unknown after a break."""
        compile_id = _compile_id()
        frame = getattr(compile_id, "frame_id", None)
        if self._first_frame is None:
            self._first_frame = frame
        return self._root if frame == self._first_frame else None

    def _path(self, stack: Mapping[str, tuple[str, Any]], root: str | None) -> str | None:
        """The innermost module's path in the model.

        Sources count from the frame's own module, `L['self']`. Behind a break of the graph that is
        any module; then the outermost one that is known by its class says where they are.
        """
        entries = list(stack.values())
        outermost, inner = _words(entries[0][0]), _words(entries[-1][0])
        if outermost[:2] != _OWN:
            return None
        if root is not None:
            return ".".join(word for word in (root, *inner[2:]) if word)
        by_class = (path for cls, path in self._modules.roots.items() if _is(entries[0][1], cls))
        start = next(by_class, None)
        return None if start is None else ".".join((start, *inner[len(outermost) :]))


@contextlib.contextmanager
def recorded(modules: ModuleLabels, root: str) -> Iterator[Compilations]:
    """Keeps what is compiled in this block; see `Compilations`.

    Args:
        modules: of the model.
        root: the path in `modules` of what is compiled: "" for the model.

    Raises:
        ConfigError: this torch has not what is needed.
    """
    import torch._functorch.config as functorch_config
    import torch._inductor.config as config
    from torch._inductor import compile_fx, debug

    found = Compilations(modules, root)
    original, graphs = getattr(debug, _END_OF_COMPILE), compile_fx.cudagraphify

    def end_of_compile() -> Any:
        found.compiled({k: list(v) for k, v in getattr(debug, _KERNEL_MAP).items()})
        return original()

    settings = {
        _LEVEL: 1,
        "post_grad_custom_post_pass": _pass(found.after_passes),
        "cpp.enable_kernel_profile": True,
        "fx_graph_cache": False,
    }
    with ExitStack() as undo:
        undo.enter_context(config.patch(settings))
        undo.enter_context(functorch_config.patch(enable_autograd_cache=False))
        undo.enter_context(found.schedules.watched())
        undo.callback(setattr, debug, _END_OF_COMPILE, original)
        undo.callback(setattr, compile_fx, "cudagraphify", graphs)
        setattr(debug, _END_OF_COMPILE, end_of_compile)
        compile_fx.cudagraphify = found.with_choice(graphs)
        yield found


def _pass(see: Callable[[fx.Graph], None]) -> Any:
    """A pass of Inductor that changes nothing."""
    from torch._inductor.custom_graph_pass import CustomGraphPass

    class Watching(CustomGraphPass):
        def __call__(self, graph: fx.Graph) -> None:
            see(graph)

        def uuid(self) -> None:
            """None keeps the graph out of every cache."""

    return Watching()


def _compile_id() -> Any:
    return torch._guards.CompileContext.current_compile_id()


def _module_stack(node: fx.Node) -> Mapping[str, tuple[str, Any]]:
    """The modules that a node was traced in; a write-back goes with what it writes."""
    of = node
    if str(node.target).startswith("aten.copy_") and len(node.args) > 1:
        source = node.args[1]
        of = source if isinstance(source, fx.Node) else node
    stack: Mapping[str, tuple[str, Any]] = of.meta.get("nn_module_stack") or {}
    return stack


def _words(path: str) -> list[str]:
    return [word for word in _PATH_WORD.findall(path) if word != "_modules"]


def _is(written: Any, cls: type) -> bool:
    if isinstance(written, type):
        return written is cls
    return str(written).rpartition(".")[2] == cls.__qualname__


def _frames(stack_trace: str) -> tuple[Frame, ...]:
    found = _FRAME.finditer(stack_trace)
    return tuple(
        Frame(PurePath(match["file"]).name, int(match["line"]), match["function"])
        for match in found
    )
