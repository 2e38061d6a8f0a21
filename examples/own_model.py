"""Where the time of your own model goes: any decoder of transformers, called as you call it."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from qwen3_profile import trace_forward

# Put your own model and inputs here.
sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "vocab_size": 256}
model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, **sizes)).eval()
input_ids = torch.randint(256, (2, 16))

profile = trace_forward(model, input_ids, use_cache=True, logits_to_keep=1)
print(profile.table())
print(profile.record.to_json()["layer_details"][0]["attn_details"])
