"""Unmodified clients against a whole cluster on the simulated runtime: none may notice that it isn't the usual server."""
