"""Deciding: pure functions from what pumps report to facts about alerts. No clock, I/O, log or chance."""
