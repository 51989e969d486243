"""A fleet of devices: one actor per device, fed by the records of a topic. See README.md."""
