"""The command line front door: thin. Reads arguments, calls the app, prints results to stdout and the rest to stderr."""
