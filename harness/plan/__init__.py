"""What was asked, its defaults, and all that can be refused before anything is loaded. No torch."""
