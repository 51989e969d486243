"""An activity worker in Java, on a bare Kafka client, and what builds and starts it."""
