"""Two ranks, the second of which comes late. Runs as a script under torchrun."""

from __future__ import annotations

import sys
import time

import torch.distributed as dist

from mixloader import MixLoader, ranks

ranks._PATIENCE = 0.3
dist.init_process_group("gloo")
with MixLoader(sys.argv[1], 14, 64, threads=1) as loader:
    dist.barrier()
    time.sleep(2.0 * dist.get_rank())
    assert len(list(loader)) == len(loader)
dist.barrier()
dist.destroy_process_group()
