"""Reads configurations of LISPmob, Open Overlay Router and lispers.net, and writes them as lispd.conf or hub.conf."""
