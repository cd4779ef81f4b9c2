"""The study: the one place where what was measured is kept. An Optuna study in any Optuna storage."""

from ccl_dispatch.tuner.study.meta import StudyMeta
from ccl_dispatch.tuner.study.storage import Storage, open_storage
from ccl_dispatch.tuner.study.sweep_study import SweepStudy, find_study

__all__ = ["Storage", "StudyMeta", "SweepStudy", "find_study", "open_storage"]
