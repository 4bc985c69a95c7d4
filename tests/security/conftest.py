"""Only `make test-kafka` runs these: they need an Apache Kafka that authorizes."""

import os

if os.environ.get("AUDIENCE_TEST_ON") != "apache-kafka":
    collect_ignore_glob = ["test_*.py"]
