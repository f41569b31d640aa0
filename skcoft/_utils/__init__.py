"""Helpers that do not depend on the method: devices, seeds, parameters, files, the cache."""
