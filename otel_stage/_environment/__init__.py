"""Facts about this process that a manifest states without asking anybody.

The quick ones cost microseconds and stand in the manifest from its first moment. The slow ones (git, the
installed packages) are found by a thread and are there by the time a run of any length ends. What cannot be
found out is absent. Nothing here imports OpenTelemetry, and importing this package imports next to nothing.
"""

from otel_stage._environment._code import code_identity, script_identity
from otel_stage._environment._quick import quick_facts
from otel_stage._environment._slow import age_slow_facts, slow_facts, start_slow_facts

__all__ = [
    "age_slow_facts",
    "code_identity",
    "quick_facts",
    "script_identity",
    "slow_facts",
    "start_slow_facts",
]
