"""What agent.py imports."""

PLAN = "golden"
