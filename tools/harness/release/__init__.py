"""What there is to download, made of one commit: the same bytes each time."""
