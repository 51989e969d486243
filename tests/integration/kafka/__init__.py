"""What only Kafka does: dying brokers, groups that time out, truncated logs, refused records."""
