"""Alerts: one for each cause, costed, and told to people.

alerting    opened, renewed, closed, each with a decision
severity    what one costs
notices     what is told, to whom, how often
channels    webhooks and Apprise
prometheus  rules and a dashboard
"""
