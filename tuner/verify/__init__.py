"""Is a table still right on this machine? Measured again where it matters, against what was measured before."""

from ccl_dispatch.tuner.verify.run import verify_table
from ccl_dispatch.tuner.verify.setup import VerifyOptions
from ccl_dispatch.tuner.verify.verdict import Verification

__all__ = ["Verification", "VerifyOptions", "verify_table"]
