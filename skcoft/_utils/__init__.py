"""Helpers that know nothing of the method: devices, seeds, parameters, files, cache."""
