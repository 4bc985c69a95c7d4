"""Takes mParticle's Firehose requests and publishes them to Kafka."""
