"""What a validation measures, what it judges by, and what it warns of."""

from .gates import judge
from .hazards import Hazards, torch_sources
from .metrics import SQNR_CAP_DB, compare

__all__ = ["SQNR_CAP_DB", "Hazards", "compare", "judge", "torch_sources"]
