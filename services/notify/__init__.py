"""Notify: takes alerts over from the outbox and tells people until a named person confirms."""
