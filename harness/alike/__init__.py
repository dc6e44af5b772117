"""Which texts are alike: exactly, nearly, or as parts of one cluster."""
