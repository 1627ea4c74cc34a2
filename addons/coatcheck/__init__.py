"""Coatcheck: an MCP gateway for non-human identities, as mitmproxy addons."""

__version__ = "0.1.0"
