"""Everything that touches mitmproxy: one addon a file, named by its verb."""
