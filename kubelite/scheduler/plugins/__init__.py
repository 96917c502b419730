"""The scheduling plugins, one a module; profile.py has their order."""
