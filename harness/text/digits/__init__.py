"""Numbers however they are written, put into digits. No torch, no files."""
