"""Live play: a server on this machine and the page that it serves. docs/play.md has the protocol."""
