"""HTTP as the gateway accepts it: targets, headers and addresses, as pure rules."""
