"""Room 2: the only place that trusts; what it decides is decided by `appraise` alone."""

from verifier.reasons import Finding, Reason, Rejected

__all__ = ["Finding", "Reason", "Rejected"]
