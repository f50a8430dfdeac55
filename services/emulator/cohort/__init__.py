"""Judges the rules: simulated pumps live for months at full speed, hazards strike, and the engine's pages are scored.

The same physics as the running emulator, the same `step` and `tick` as the worker, and a ground truth that neither of
them knows: for every injected hazard its onset and the latest time by which a person must know.
"""
