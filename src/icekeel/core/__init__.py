"""Values, time, identifiers, errors and small statistics that every room may use.

Depends on the standard library and NumPy only and knows nothing of features, models or servers.
"""
