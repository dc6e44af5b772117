"""The fields of data files: what each means, and which may not be left unread. No torch."""
