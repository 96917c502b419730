"""Semantic checks of built-in kinds, beyond what their structure says: functions from an object to the causes found.

A check takes a value and its path and returns `meta.errors.Cause`s, none when all is well. It sees defaulted objects, changes
nothing and asks nobody. Texts have Kubernetes' form, since clients and tests read them.
"""
