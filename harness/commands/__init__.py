"""One module a `lethe` command, and the parsing of its arguments. Nobody imports this folder."""
