"""Training: from past questions to a version that serves, is tried, or is blocked.

workshop        training and admission
lineage         what a version is made with
retraining      when a model is trained again
audits          all that is audited of a model
labelling       labels in doubt, out to people and back
study           what features are worth
feature_report  what each feature is, holds, is worth and costs
reading_cost    what reading a feature costs
"""
