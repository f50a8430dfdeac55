"""All of Pumpwatch on one machine: real PostgreSQL and Kafka from packages, every service, and the emulator."""
