"""Pumps with simple physics behind gateways that behave like gateways: demonstrations, tests and load."""
