"""What the READMEs of examples/ tell to type, on a real server, seen at a screen or in what is printed."""
