"""The gates: what a candidate must show before it may carry anything."""

from steelyard.validate.candidate import Address, Candidate, ChampionEvidence
from steelyard.validate.judge import judge
from steelyard.validate.metrics import evaluate, standard_metrics
from steelyard.validate.settings import Settings, check_settings

__all__ = [
    "Address",
    "Candidate",
    "ChampionEvidence",
    "Settings",
    "check_settings",
    "evaluate",
    "judge",
    "standard_metrics",
]
