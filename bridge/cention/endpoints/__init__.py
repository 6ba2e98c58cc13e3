"""Cention's endpoints, one method each, in one class for each part of the API; `bridge.cention.client` joins them."""
