"""The datapath: C that moves packets between the TUN device and the uplinks, and its typed Python face."""
