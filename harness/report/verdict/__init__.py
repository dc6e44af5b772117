"""What may be said: verdict, recommendation, model card, terminal."""
