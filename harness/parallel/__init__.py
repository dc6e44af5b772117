"""How one run is computed: in one process or in several."""
