"""What the verifier does when a node speaks: decode, ask the deciding part, record.

The deciding part judges; here is only what follows from its answer, each verb's consequences in
one transaction. Every verb takes the service and a message, and may be called from any thread.
"""
