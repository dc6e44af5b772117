"""Which methods there are, and what a recipe says."""
