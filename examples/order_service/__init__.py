"""An event-driven service: orders come from a topic, payments and shipments go to topics. See README.md."""
