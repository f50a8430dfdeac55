"""Takes reports from gateways over HTTP and Kafka, judges them, and has Kafka keep them before it says so."""
