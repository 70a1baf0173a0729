"""The loop and its clock: what happens on its own, in which order, and why. Knows every room but the front doors.

workspace    the definitions, and where the data of one project lie
runs         commands in processes of their own; `ledger` tells of them
snapshots    what training runs have pinned
projections  what the keeper derives from the journal
skew         served features recomputed
monitors     what is usual, and looking minute by minute
workshop     training and admission
alerts       one for each cause
trials       versions on trial
accounts     answering for an answer, a version, a model
upkeep       retention, backup, doctor, forgetting
loop         the keeper, the duties of each day, the schedule
rehearsal    all of it, on history, with faults
"""
