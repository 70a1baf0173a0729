"""Answering for what was done: of an answer, of a version, of a model.

trace, trace_words  one answer and all that stands behind it
window_rows         the events that a question met
explain             why an answer is what it is
guard_report        what the guard does and cannot see
dossier             all that is kept of a version
briefing            a version for whoever decides about it
readiness           the five questions before a version is trusted
mirror              a copy of the registry in MLflow
"""
