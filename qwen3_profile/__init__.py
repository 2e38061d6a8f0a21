"""Where every microsecond of a Qwen3 forward pass goes, on the CPU and on the GPU."""

__version__ = "0.1.0"
