"""Tests a client of rowcast as a program: a scripted server speaks docs/reference/protocol.md, and looks at what the client does."""
