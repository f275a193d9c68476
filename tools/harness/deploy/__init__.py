"""What stands around rowcast: proxies, alerts, the unit."""
