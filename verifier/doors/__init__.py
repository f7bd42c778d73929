"""The doors: HTTP for attestors and relying parties, a UNIX socket for operators.

network            attestors (routes), relying parties (forms) and whoever listens (listeners)
operators          by the socket that is theirs
serving            both of them open

Decode, call, encode; no more. Each route says what protects it. Bodies are bounded before they are
read, read before they are decoded, and never decompressed. A refusal is JSON, whatever the route;
a failure that is no refusal says that nothing was decided.
"""
