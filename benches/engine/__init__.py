"""Measures the engine beside its peers: `./dev bench` runs it."""
