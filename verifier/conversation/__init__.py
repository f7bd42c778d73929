"""What the verifier does when a node speaks: decode, ask the deciding part, record.

activations        the node enrols
challenges         it asks for a challenge
judgement          it answers with evidence, of which a snapshot is judged
    acceptance       then the node has come further (progress), and each process
        settlement     gets its credential (holdings), or loses it
    refusal          or else what it had ends
announcements      it tells what began and ended since

The deciding part judges; here is only what follows from its answer, each verb's consequences in
one transaction. Every verb takes the service and a message, and may be called from any thread.
"""
