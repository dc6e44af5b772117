"""Where runs execute: processes here, ranks of one run, a Ray cluster."""
