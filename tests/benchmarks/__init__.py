"""Pumpwatch measured against its targets and against rivals, all in one run on one machine.

Every part runs on the same real broker and the same real, durable PostgreSQL (fsync on), each with topics and a
database of its own. Loads are open loops: a request is due at a fixed moment whether or not the one before was
answered, and its latency counts from that moment, so a system that stalls cannot hide it (coordinated omission).

Run ``python -m tests.benchmarks [--quick] [part ...]``; the result is ``build/bench/latest.json`` and a table.
"""
