"""Stands for a part of AITER, which runs on AMD GPUs only. Importing it sets the variables that AITER's import sets."""

import os
from pathlib import Path

os.environ["AITER_ASM_DIR"] = f"{Path(__file__).parent}/hsa/"
os.environ["AITER_GPU_ARCHS"] = "gfx942"
