"""An AI agent: a model, tools, and a person who approves the dangerous ones. See README.md."""
