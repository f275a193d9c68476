"""Tests a client of rowcast as a program: a scripted server speaks docs/protocol.md, and looks at what the client does."""
