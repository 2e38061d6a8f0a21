"""Where the tests find recorded traces."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
# Real traces, ours and of others, which lie beside the clone; a test that reads them is skipped
# where they are missing.
SHARED = ROOT.parent / "shared" / "traces"
OWN = SHARED / "own"


DECODE = DATA / "qwen3-0.6b_decode_b1_ctx128.json.gz"


EXPERTS = DATA / "qwen3-30b-a3b_2layers_prefill_b2_l256.json.gz"
