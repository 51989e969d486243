"""An order that may need a person's decision before it is shipped. See README.md."""
