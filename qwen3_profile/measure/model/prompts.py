"""Turns prompts into token ids, by the tokenizer that lies with the model's weights.

Only `tokenizer.json` is read, the file of the fast tokenizer, which every published Qwen3 has; no
code of the model's directory runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from qwen3_profile.config import ModelRequest
from qwen3_profile.errors import ModelError
from qwen3_profile.measure.model import hub, published_shapes
from qwen3_profile.measure.model.transformers_compat import explained

TOKENIZER_FILE = "tokenizer.json"


def encode_prompts(request: ModelRequest, prompts: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """The token ids of each prompt, with the special tokens that the tokenizer itself adds.

    Args:
        request: names the model; with random weights no hub is asked, as for the weights.
        prompts: none empty.

    Raises:
        ModelError: there is no tokenizer, it cannot be read, or it makes no token of a prompt.
    """
    from tokenizers import Tokenizer

    found = None if hub.is_directory(request.name) else published_shapes.lookup(request.name)
    name = found.name if found else request.name
    path, reason = hub.find_file(name, TOKENIZER_FILE, ask_hub=request.weights != "random")
    if path is None:
        do = f"give a --model-name whose directory has {TOKENIZER_FILE}, or leave out --prompt"
        raise ModelError("--prompt", f"{name} has no tokenizer here: {reason}", do)
    with explained(str(path), "is no tokenizer that can be read"):
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        encoded = tuple(tuple(tokenizer.encode(prompt).ids) for prompt in prompts)
    for number, ids in enumerate(encoded, 1):
        if not ids:
            raise ModelError("--prompt", f"prompt {number} has no token", "leave it out")
    return encoded
