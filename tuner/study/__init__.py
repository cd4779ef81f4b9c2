"""The study: the one place where what was measured is kept. An Optuna study in any Optuna storage."""

from ccl_dispatch.tuner.study.meta import StudyMeta
from ccl_dispatch.tuner.study.owner import Node
from ccl_dispatch.tuner.study.storage import Storage, open_storage
from ccl_dispatch.tuner.study.sweep_study import SweepStudy, find_study
from ccl_dispatch.tuner.study.worker import StudyWorker

__all__ = ["Node", "Storage", "StudyMeta", "StudyWorker", "SweepStudy", "find_study", "open_storage"]
