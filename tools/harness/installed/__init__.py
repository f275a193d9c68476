"""What there is to download, installed and run where nothing else of rowcast is."""
