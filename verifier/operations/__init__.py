"""Operations: what operators may do, in JSON values; what one changes has a row in the ledger.

`verbs` is all of it, by the names that the operators' socket knows. Whoever may open that may call
any (`verifier.doors.operators`); `verifier.client` is the other end.
"""
