"""Servers of HTTP libraries, one a file, each an extra."""
