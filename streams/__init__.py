"""The worker and what every service shares with it: topics, settings, the store and the pure domain."""
