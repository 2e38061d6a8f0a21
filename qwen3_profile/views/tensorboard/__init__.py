"""TensorBoard: its event files, the trace for viewers, and the tool's own tab."""
