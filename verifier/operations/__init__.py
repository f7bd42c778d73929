"""Operations: what operators may do; each takes and gives JSON values and leaves a ledger row.

Whoever may open the operators' socket may call any of them (`verifier.doors.operators`);
`verifier.client` is the other end.
"""
