"""A synthetic alarm goes through the whole path every 15 seconds; when it stops, people are told by another way."""
