"""Other ways to build it, measured on the same reports, the same broker and the same durable PostgreSQL.

Each rival reads one report of about 300 bytes as JSON per record, key ``pump_id``: the form in which these tools are
used, and the form of Pumpwatch's own Kafka edge. Pumpwatch's worker reads *its* natural form, records of a batch each
that ingest has already validated; that validation is inside the rivals' figures and outside the worker's, where it is
part of ``system_reports_per_second``. The bare loop is therefore measured on each form, and with plain inserts as well
as with COPY, which the worker too uses for large batches.

Each is a process of its own, started with its settings as one JSON argument, and prints one JSON line: how many reports
it made durable and in how many seconds since its first one. Each runs until a time limit or the end of the topic, long
enough for several commits.

Tuning, so that each is at its best: librdkafka fetches ahead (its default is up to 100,000 records); quixstreams
commits every 10,000 records or 5 s, so a checkpoint's cost is spread thin; its log is off; RocksDB does not fsync,
because the changelog topic is what makes it durable; PostgreSQL is written in one transaction per checkpoint, with the
statements that the worker uses.
"""
