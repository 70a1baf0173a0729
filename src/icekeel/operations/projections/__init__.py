"""What the keeper derives from the journal, and what history holds of it.

projections  online windows, and answers joined with what came of them
past         what history holds, as the records it was made of
outcome      what came of one answer
reach        how far the projections were at each commit
seen         event versions as the online store had them when questions were answered
"""
