"""What each family of rules remembers of a pump's reports: one log per family, each kept small by its own limits.

A log is part of `streams.domain.world.PumpState`, an immutable value. Its module has two functions: ``measured`` takes
a report's measurements in, ``happened`` one of its events. Both get the state as the fact left it, and return the very
same log where nothing changed: a rule is judged again only when something it reads is another object. Measurements
come in event-time order, older ones are not shown to the logs; an event may be older than what is known already.
"""
