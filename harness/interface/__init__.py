"""What a plug-in may see and fill in, by subject. Plug-ins import it from `harness.contract`."""
