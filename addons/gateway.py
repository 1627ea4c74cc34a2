"""The whole gateway, for `mitmdump -s addons/gateway.py`; `coatcheck run` starts the same."""

from coatcheck.chain import gateway

addons = [gateway()]
