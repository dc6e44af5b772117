"""Tool calls: valid, the right tool, the right arguments, and restraint."""
