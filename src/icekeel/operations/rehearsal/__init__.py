"""Rehearsal: history played again through the real processes, with faults, before customers meet them.

replay    history played through a running server
past      what happened in the window that is replayed, and a copy of the project as it stood before
faults    what may go wrong, each a small change of the stream or an act upon the processes
plan      which faults, where, when, how strong
stream    the window in the order of time, with the faults in it
course    one replay through a server and a keeper of its own
result    what was found after how long, what it was called, what it cost
"""
