"""The room on the node: it collects evidence and guards what was granted; it never judges."""
