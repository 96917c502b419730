"""Compares kubelite's controllers with the real controller manager, working on the same API.

A script (`scripts/*.yaml`) says what a user does; it is played on an API server with either's controllers, and what is there
once all is quiet is compared. The real controller manager needs nothing but kubelite's API server, so it tests that too.
"""
