"""Tables, plots, the page and the leaderboard site."""
