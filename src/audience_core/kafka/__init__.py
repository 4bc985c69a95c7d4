"""Kafka: clients are made here and passed in; nothing connects at import."""
