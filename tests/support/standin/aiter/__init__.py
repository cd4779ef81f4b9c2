"""Stands in for AITER in tests: the same surface and the same failures, on the CPU and on any GPU of torch.

Importing it sets the variables that importing AITER sets, with values as on an MI300X.
"""

import os
from pathlib import Path

os.environ["AITER_ASM_DIR"] = f"{Path(__file__).parent}/hsa/"
os.environ["AITER_GPU_ARCHS"] = "gfx942"
