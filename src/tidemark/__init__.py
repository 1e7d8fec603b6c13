"""Tidemark."""

import os

# Arrow's own allocator keeps what batches free: some 40 MB at the peak of each read. It is chosen
# when pyarrow is first imported, so nothing of ours may have imported it before.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
