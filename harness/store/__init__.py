"""Everything that is kept on disk: files, a run's folder, comparisons, leases, journals, provenance. No torch."""
