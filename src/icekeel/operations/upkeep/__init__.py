"""Keeping an installation whole.

retention   how long what is kept is kept
backup      backups and putting them back
doctor      what is wrong with an installation
forgetting  to forget an entity
"""
