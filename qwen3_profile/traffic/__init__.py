"""The memory traffic of a forward pass: what its operators and kernels read and write, by label.

**Bytes** are what a kernel has to move if nothing is moved twice: each tensor operand, that is the
region of its storage that is really addressed, is read once where it is read, and written once
where it is written. It is the traffic of a roofline, and not what caches make of it. Views move
nothing, an expanded tensor only what it is expanded from, a gather the elements that it gathers and
not the table, a write into a KV cache what it writes and not the cache. An operator in place reads
and writes its operand, and what a compiled kernel makes and uses up inside is no operand.
"""
